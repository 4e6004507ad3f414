#!/usr/bin/env bash
# Builds the four programs optimised and static, as an image needs them that has nothing else, and says in which folder they are. Paths of this
# machine are kept out of them, so that the same sources give the same bytes wherever they lie.
set -euo pipefail
cd "$(dirname "$0")/.."

# Named, because the flags must not reach build scripts and procedural macros.
target=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$PWD=/src --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
cargo build --locked --release --target "$target" ${JOBS:+-j "$JOBS"} >&2
echo "${CARGO_TARGET_DIR:-target}/$target/release"
