#!/usr/bin/env bash
# The lab's experiments in pods, from the images of ci/images.sh, and the page that reads them.
#   ci/lab.sh          some of them, held against the tables of docs/results.md
#   ci/lab.sh write    all of them, and the tables anew
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/checks.sh
needs_podman lab_pods

BIN=${BIN:-target/release}
OUT=target/lab-pods
PAGE=docs/results.md
lab() { "$BIN/lab" "$@"; }

if [ "${1:-}" = write ]; then
  lab --pods --out "$OUT"
  exec "$BIN/lab" readme --write "$PAGE" "$OUT/results.json"
fi

mkdir -p "$OUT"
status=0
lab --pods --out "$OUT" --only a,b,c,c_three | tee "$OUT/said" || status=$?
check "what the lab expects holds in pods ($(grep -c '^✓' "$OUT/said") claims)" [ "$status" = 0 ]
check "$PAGE says what this run says, where it has looked" lab readme --some "$PAGE" "$OUT/results.json"
nothing_is_left lab_pods leftovers "$OUT"
summary lab_pods
