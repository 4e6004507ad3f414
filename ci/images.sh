#!/usr/bin/env bash
# Builds the three images with podman or docker: as their Dockerfiles say where the base image can be had; otherwise the static binaries are
# built with this machine's cargo, and the Dockerfile's own last stage is put around them.
#   ci/images.sh            the base image decides
#   ci/images.sh offline    this machine's cargo in any case
set -euo pipefail
cd "$(dirname "$0")/.."

SIZE_MAX=$((8 * 1024 * 1024)) # of the proxy's image
BASE=$(sed -n 's/^FROM \(.*\) AS build$/\1/p' proxy/Dockerfile)
VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
REVISION=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
ENGINE=$(command -v podman || command -v docker) || { echo "neither podman nor docker is here"; exit 1; }
export CONTAINERS_CONF="${CONTAINERS_CONF:-$PWD/ci/containers.conf}"

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

image_of() { [ "$1" = proxy ] && echo outrigger || echo "outrigger-$1"; }
program_of() { [ "$1" = proxy ] && echo outrigger || echo "$1"; }

# The last stage, with the binary beside it instead of in the stage before.
last_stage() { awk '/^FROM /{stages++} stages == 2' "$1/Dockerfile" | sed 's#^COPY --from=build /out/#COPY #'; }

build_online() {
  "$ENGINE" build -f "$1/Dockerfile" --build-arg REVISION="$REVISION" -t "$(image_of "$1"):$VERSION" .
}

build_offline() {
  cp "$binaries/$(program_of "$1")" "$context/"
  last_stage "$1" >"$context/Dockerfile"
  "$ENGINE" build -f "$context/Dockerfile" --build-arg REVISION="$REVISION" -t "$(image_of "$1"):$VERSION" "$context"
}

if [ "${1:-}" != offline ] && { "$ENGINE" image inspect "$BASE" || timeout 120 "$ENGINE" pull "$BASE"; } >/dev/null 2>&1; then
  echo "building in $BASE"
  build=build_online
else
  echo "building with this machine's $(cargo --version)"
  target=$(rustc -vV | sed -n 's/^host: //p')
  RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --target "$target" \
    -p outrigger -p backend -p client -j "${JOBS:-2}"
  binaries=${CARGO_TARGET_DIR:-target}/$target/release
  build=build_offline
fi

for folder in proxy backend client; do
  "$build" "$folder" >"$context/log" 2>&1 || { cat "$context/log"; exit 1; }
  image=$(image_of "$folder"):$VERSION
  size=$("$ENGINE" image inspect --format '{{.Size}}' "$image")
  said=$("$ENGINE" run --rm --network none --read-only --cap-drop all "$image" --help)
  printf '%-24s %4d KiB  %s\n' "$image" $((size / 1024)) "${said%%$'\n'*}"
  if [ "$folder" = proxy ] && [ "$size" -gt "$SIZE_MAX" ]; then
    echo "$image is larger than $SIZE_MAX bytes"
    exit 1
  fi
done
