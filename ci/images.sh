#!/usr/bin/env bash
# Builds the three images with podman or docker: as their Dockerfiles say where the base image can be had; otherwise the static binaries are
# built with this machine's cargo, and the Dockerfile's own last stage is put around them. Then looks at what came out.
#   ci/images.sh            the base image decides
#   ci/images.sh offline    this machine's cargo in any case
# With podman an image depends on the sources alone, not on the time: the same ones give the same digest, which is checked.
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/checks.sh

SIZE_MAX=$((8 * 1024 * 1024)) # of the proxy's image
BASE=$(sed -n 's/^FROM \(.*\) AS build$/\1/p' proxy/Dockerfile)
VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
REVISION=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
if ! podman info >/dev/null 2>&1 && docker info >/dev/null 2>&1; then
  ENGINE=docker SAME=()
else
  podman info >/dev/null 2>&1 || needs_podman images
  # A cached layer keeps its old time.
  ENGINE=podman SAME=(--timestamp 0 --no-cache)
fi
export CONTAINERS_CONF="${CONTAINERS_CONF:-$PWD/ci/containers.conf}"

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

image_of() { [ "$1" = proxy ] && echo outrigger || echo "outrigger-$1"; }
program_of() { [ "$1" = proxy ] && echo outrigger || echo "$1"; }

# The last stage, with the binary beside it instead of in the stage before.
last_stage() { awk '/^FROM /{stages++} stages == 2' "$1/Dockerfile" | sed 's#^COPY --from=build /out/#COPY #'; }

build_online() {
  "$ENGINE" build "${SAME[@]}" -f "$1/Dockerfile" --build-arg REVISION="$REVISION" -t "$(image_of "$1"):$VERSION" .
}

build_offline() {
  cp "$binaries/$(program_of "$1")" "$context/"
  last_stage "$1" >"$context/Dockerfile"
  "$ENGINE" build "${SAME[@]}" -f "$context/Dockerfile" --build-arg REVISION="$REVISION" -t "$(image_of "$1"):$VERSION" "$context"
}

if [ "${1:-}" != offline ] && { "$ENGINE" image inspect "$BASE" || timeout 120 "$ENGINE" pull "$BASE"; } >/dev/null 2>&1; then
  echo "building in $BASE"
  build=build_online
else
  echo "building with this machine's $(cargo --version)"
  binaries=$(ci/static.sh)
  build=build_offline
fi

told() { "$ENGINE" image inspect --format "$1" "$image"; }
built() { "$build" "$folder" >"$context/log" 2>&1 || { cat "$context/log"; exit 1; }; }

for folder in proxy backend client; do
  image=$(image_of "$folder"):$VERSION
  built
  id=$(told '{{.Id}}') size=$(told '{{.Size}}')
  said=$("$ENGINE" run --rm --network none --read-only --cap-drop all "$image" --help) || true
  check "$image: $((size / 1024)) KiB; says: ${said%%$'\n'*}" [ -n "$said" ]
  check "$image: runs as 65532" [ "$(told '{{.Config.User}}')" = 65532:65532 ]
  check "$image: its label has the revision $REVISION" [ "$(told '{{index .Config.Labels "org.opencontainers.image.revision"}}')" = "$REVISION" ]
  if [ "$folder" = proxy ]; then check "$image: not larger than $SIZE_MAX bytes" [ "$size" -le "$SIZE_MAX" ]; fi
  # In its base image a second build would compile everything again.
  if [ "$ENGINE" = podman ] && [ "$build" = build_offline ]; then
    built
    check "$image: built again it is the same, ${id:0:12}" [ "$(told '{{.Id}}')" = "$id" ]
  fi
done
summary images
