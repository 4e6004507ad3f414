#!/usr/bin/env bash
# Looks for bytes that break a property of fuzz/properties, from the seeds and from what earlier runs found interesting. FUZZ_SECONDS (60) is the time for all of them;
# `ci/fuzz.sh requests` is for one. Needs a C++ compiler, for libFuzzer; no nightly Rust: the flags that count coverage are stable, and without `unsafe` there is nothing for a sanitizer to find.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-60}
out=${CARGO_TARGET_DIR:-target}/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
coverage="-Cpasses=sancov-module"
for argument in level=4 inline-8bit-counters pc-table trace-compares; do
  coverage+=" -Cllvm-args=-sanitizer-coverage-$argument"
done

# With --target, so that the flags do not reach build scripts and macros.
RUSTFLAGS="--cfg fuzzing $coverage" \
  cargo build --release --manifest-path fuzz/Cargo.toml --target "$host" --target-dir "$out"
bin=$out/$host/release
seeds() { cargo run --quiet --locked -p outrigger-properties --example seeds -- "$@"; }

# Requests and responses have the most to find, and take the longest.
shares=(requests:3 responses:3 headers:1 authority:1 paths:1 config:1 times:1 policies:1)
[ $# -eq 0 ] || shares=("$1:1")
sum=0
for share in "${shares[@]}"; do sum=$((sum + ${share#*:})); done

failed=0
for share in "${shares[@]}"; do
  target=${share%:*}
  time=$((seconds * ${share#*:} / sum))
  corpus=$out/corpus/$target found=$out/found/$target log=$out/$target.log
  mkdir -p "$corpus" "$found"
  seeds unpack "$target" "$corpus"
  if "$bin/$target" -max_total_time=$((time > 0 ? time : 1)) -max_len=4096 -timeout=20 -artifact_prefix="$found/" "$corpus" >"$log" 2>&1; then
    printf '%-10s %s\n' "$target" "$(grep -E '^Done|^#[0-9]+.*DONE' "$log" | tail -1)"
  else
    failed=1
    echo "$target: the property does not hold (see $log); as a line of fuzz/properties/seeds/$target.txt:"
    grep -m1 -A3 'panicked at' "$log" || true
    find "$found" -type f -newer "$corpus" | while read -r file; do
      printf '%s: %s\n' "found_$(basename "$file" | cut -c1-14 | tr - _)" "$(seeds line "$file")"
    done
  fi
done
exit $failed
