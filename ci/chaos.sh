#!/usr/bin/env bash
# The experiments of chaos/ by Chaos Toolkit, each against a fresh demo, and each once more against the client without a sidecar, where it must
# deviate. Takes a minute and a half; needs python3 with venv, a package index for the first run, curl, and the built programs (make build).
#   ci/chaos.sh                                all experiments, against plain processes
#   ci/chaos.sh backend_failure ...            only these
#   CHAOS_TARGET=chaos/podman.sh ci/chaos.sh   against pods
set -euo pipefail
cd "$(dirname "$0")/.."

OUT=${OUT:-target/chaos}
VENV=${VENV:-.venv}
export CHAOS_STATE="$OUT/demo" CHAOS_TARGET=${CHAOS_TARGET:-chaos/processes.sh}

if [ ! -x "$VENV/bin/chaos" ]; then
  echo "chaos: installing Chaos Toolkit into $VENV"
  python3 -m venv "$VENV"
  "$VENV/bin/pip" install -q --disable-pip-version-check chaostoolkit==1.19.0 'chaostoolkit-lib[jsonpath]==1.44.0'
fi

mkdir -p "$OUT"
trap 'sh "$CHAOS_TARGET" down' EXIT

# run EXPERIMENT JOURNAL: continuously, because what matters is what the app sees meanwhile; without fail-fast a deviation that has passed by the
# end of the method would not count as one.
run() {
  ${CHAOS_ENTER:-} "$VENV/bin/chaos" --no-version-check --log-file "$OUT/chaostoolkit.log" run --journal-path "$2" --rollback-strategy always \
    --hypothesis-strategy continuously --hypothesis-frequency 0.5 --fail-fast "chaos/$1.json" >"$2.log" 2>&1 || true # the journal is what counts
}

metrics() { ${CHAOS_ENTER:-} curl -sf -m 5 "$ADMIN_URL/metrics"; }
# The sum of all series of a family, now.
total() { metrics | awk -v family="$1{" 'index($0, family) == 1 { sum += $NF } END { print sum + 0 }'; }
# Requests that were refused without an attempt.
refused() { metrics | awk '/^outrigger_requests_total\{.*outcome="(breaker_open|endpoints_open)"/ { sum += $NF } END { print sum + 0 }'; }
# What the client says in its report: the share that succeeded, and the 99th percentile of all.
fared() { awk '/^succeeded .*%)/ { share = $3 $4 } /^all / { p99 = $6 } END { print substr(share, 2, length(share) - 2) ", p99 " p99 " ms" }' "$1"; }

check() {
  local experiment=$1 retried rejected
  rm -f "$OUT/$experiment".*
  eval "$(sh "$CHAOS_TARGET" up)"
  retried=$(total outrigger_retries_total) rejected=$(refused)
  run "$experiment" "$OUT/$experiment.json"
  "$VENV/bin/python" ci/journal.py "$OUT/$experiment.json" held
  retried=$(($(total outrigger_retries_total) - retried)) rejected=$(($(refused) - rejected))
  sh "$CHAOS_TARGET" down
  echo "     meanwhile $retried retries, $rejected requests refused at once"
  if [ -f "$CHAOS_STATE/with.log" ]; then
    echo "     client behind the sidecar: $(fared "$CHAOS_STATE/with.log"); straight to the first backend: $(fared "$CHAOS_STATE/without.log")"
  fi
  if [ $((retried + rejected)) = 0 ]; then
    echo "FAIL the sidecar did nothing"
    return 1
  fi

  eval "$(sh "$CHAOS_TARGET" up)"
  # The app's address is the first backend's own; everything else is as before.
  PROXY_URL=$DIRECT_URL run "$experiment" "$OUT/$experiment.direct.json"
  "$VENV/bin/python" ci/journal.py "$OUT/$experiment.direct.json" deviated
  sh "$CHAOS_TARGET" down
}

if [ $# = 0 ]; then set -- backend_failure latency error_burst outage; fi
for experiment in "$@"; do check "$experiment"; done
echo "chaos: all experiments came out as they should, in $SECONDS s; journals in $OUT"
