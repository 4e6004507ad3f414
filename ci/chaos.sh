#!/usr/bin/env bash
# The experiments of chaos/ by Chaos Toolkit, each with the sidecar, where it must hold, and once more without, where it must deviate.
#   ci/chaos.sh                                all of them, against plain processes and against pods, both at the same time (4 minutes)
#   ci/chaos.sh processes [EXPERIMENT...]      against plain processes only; all experiments, or these
#   ci/chaos.sh podman [EXPERIMENT...]         against pods only
# Installs what it needs where it may (ci/checks.sh); needs the built programs (BIN, target/release) and the images of ci/images.sh. Journals,
# logs, and what Prometheus was asked: OUT (target/chaos).
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/checks.sh

OUT=${OUT:-target/chaos}
EXPERIMENTS="backend_failure latency error_burst one_bad_endpoint connection_reset hang dns_gone partition flapping rolling_restart outage sidecar_killed"
# Whose second run, without the sidecar, differs in pods from that with processes, which has all of them.
WITHOUT_IN_PODS="backend_failure dns_gone partition sidecar_killed"
SETTLE_MAX_S=20

both_lanes() {
  local lane lanes=() log status=0
  mkdir -p "$OUT"
  # Before there are two who would install at the same time. What is missing in earnest is each lane's to tell.
  (needs_packages chaos processes && needs_packages chaos podman) >"$OUT/install.log" 2>&1 || true
  for lane in processes podman; do
    "$0" "$lane" >"$OUT/$lane.log" 2>&1 &
    lanes+=("$!")
  done
  # In the background they do not hear an interrupt. Each cleans up after itself.
  trap 'kill "${lanes[@]}" 2>/dev/null; wait; cat "$OUT"/{processes,podman}.log; exit 130' INT TERM
  for lane in "${lanes[@]}"; do wait "$lane" || status=1; done
  for log in processes podman; do cat "$OUT/$log.log"; done
  exit "$status"
}

# needs_packages NAME LANE
needs_packages() {
  needs "$1" curl=curl python3=python3,python3-venv prometheus=prometheus ps=procps unshare=util-linux
  if may_install; then needs "$1" nft=nftables; fi
  needs_venv "$1"
  if [ "$2" = podman ]; then needs_podman "$1"; fi
}

case "${1:-}" in
  "") both_lanes ;;
  processes | podman) lane=$1 ;;
  *) sed -n 's/^#   //p' "$0" >&2 && exit 2 ;;
esac
shift
needs_packages "chaos_$lane" "$lane"

mkdir -p "$OUT/$lane"
rm -f "$OUT/$lane/demo/cluster.pid"
export CHAOS_STATE="$OUT/$lane/demo" CHAOS_TARGET=chaos/$lane.sh
target() { sh "$CHAOS_TARGET" "$@"; }

end() {
  trap '' INT TERM
  if [ -n "${running:-}" ] && kill "$running" 2>/dev/null; then wait "$running" || true; fi
  if [ -f "$CHAOS_STATE/cluster.pid" ]; then kill "$(cat "$CHAOS_STATE/cluster.pid")" && wait "$(cat "$CHAOS_STATE/cluster.pid")" || true; fi
  target down || true
  # The other lane's pods are none of this one's business.
  if [ "$lane" = podman ]; then nothing_is_left "$lane" leftovers "$CHAOS_STATE"; else nothing_is_left "$lane" processes_left "$CHAOS_STATE"; fi
  summary "chaos_$lane"
}
# The last command's status is the script's.
trap 'status=$?; if [ $status != 0 ]; then bad "ended with $status"; fi; end' EXIT
trap 'exit 130' INT TERM

# asked QUERY: whether Prometheus answers with a 1.
asked() {
  curl -s -m 2 --get --data-urlencode "query=$1" "$PROMETHEUS_URL/api/v1/query" | grep -q ',"1"\]'
}

# renew_and_settle: a fresh sidecar, which Prometheus sees, and whose client has been served at the usual rate and without a failure for three seconds.
renew_and_settle() {
  local end=$((SECONDS + SETTLE_MAX_S)) now
  # A process tells its start by ticks since the machine's; that is a second's worth of doubt.
  now=$(($(date +%s) - 2))
  target renew
  until asked "(min(process_start_time_seconds) > bool $now) * (sum(rate(outrigger_requests_total{outcome=\"success\"}[3s])) > bool 12)"; do
    if [ "$SECONDS" -ge "$end" ]; then
      bad "$lane: the demo has not settled within $SETTLE_MAX_S s"
      exit 1
    fi
    sleep 0.2
  done
}

# run EXPERIMENT JOURNAL STRATEGY: continuously, because what matters is what the app sees meanwhile; without fail-fast a deviation that has
# passed by the end of the method would not count as one. The exit status says less than the journal.
run() {
  local options=(--journal-path "$2" --rollback-strategy always --hypothesis-strategy "$3")
  if [ "$3" = continuously ]; then options+=(--hypothesis-frequency 0.5 --fail-fast); fi
  $CHAOS_ENTER "$VENV/bin/chaos" --no-version-check --log-file "$OUT/$lane/chaostoolkit.log" run "${options[@]}" "chaos/$1.json" \
    >"$2.log" 2>&1 &
  # In the background, so that a signal is not kept waiting until it has ended.
  running=$!
  wait "$running" || true
  running=
}

# judge JOURNAL held|deviated STRATEGY
judge() {
  local said
  if said=$("$VENV/bin/python" ci/journal.py "$@" 2>&1); then ok "$lane: $said"; else bad "$lane: $said"; fi
}

# Requests of the client behind the sidecar that have ended, and of these failed.
client_counts() { target client_log | awk '$4 == "ended" { ended += $3 } { for (i = 2; i <= NF; i++) if ($i == "failed") failed += $(i - 1) } END { print ended + 0, failed + 0 }'; }

experiment() {
  local name=$1 journal=$OUT/$lane/$1.json strategy=continuously ended failed_before ended_after failed_after
  rm -f "$OUT/$lane/$name".*
  # Meanwhile there is nothing to be seen but that it is gone.
  if [ "$name" = sidecar_killed ]; then strategy=default; fi
  renew_and_settle
  sleep 1.1 # the client tells about each second when it is over
  read -r ended failed_before < <(client_counts)
  run "$name" "$journal" "$strategy"
  read -r ended_after failed_after < <(client_counts)
  judge "$journal" held "$strategy"
  echo "      the client behind the sidecar: $((failed_after - failed_before)) of $((ended_after - ended)) requests failed"

  if [ "$lane" = podman ] && [ -n "$all" ] && ! grep -qw "$name" <<<"$WITHOUT_IN_PODS"; then return; fi
  without "$name" "$OUT/$lane/$name.direct.json" "$strategy"
  judge "$OUT/$lane/$name.direct.json" deviated "$strategy"
}

# The same experiment for an app that has no sidecar: its address is the first backend's own, everything else is as before.
without() {
  local straight
  case "$1" in
    # Who calls by address feels no loss of names.
    dns_gone) PROXY_URL=$NAMED_URL run "$@" ;;
    # Who has no sidecar cannot lose it. What makes the app well again is whoever restarts the sidecar; without, it must stay unserved.
    sidecar_killed) CHAOS_ABANDON=1 run "$@" ;;
    *)
      straight=$(target direct)
      PROXY_URL=$straight run "$@"
      ;;
  esac
}

target up >"$OUT/$lane/env"
eval "$(cat "$OUT/$lane/env")"
all=
if [ $# = 0 ]; then all=yes; fi
for name in ${*:-$EXPERIMENTS}; do
  case "$name" in
    dns_gone | partition)
      if [ "$(id -u)" != 0 ]; then
        left_out "$lane: $name" "it needs root"
        continue
      fi
      ;;
  esac
  experiment "$name"
done
# What a cluster would be told, before pods that are what they are; the rest of the experiment is the same.
as_a_cluster() {
  local name=$1 journal=$OUT/$lane/$1.cluster.json
  renew_and_settle
  CHAOS_TARGET=chaos/kubectl.sh run "$name" "$journal" continuously
  lane=cluster judge "$journal" held continuously
}

if [ "$lane" = podman ] && [ -n "$all" ]; then
  export KUBECONFIG=$CHAOS_STATE/kubeconfig
  rm -f "$KUBECONFIG"
  "$VENV/bin/python" ci/cluster.py "$(sed 's#http://\(.*\):.*#\1#' <<<"$PROMETHEUS_URL")" "$KUBECONFIG" >"$OUT/$lane/cluster.log" 2>&1 &
  echo $! >"$CHAOS_STATE/cluster.pid"
  until [ -s "$KUBECONFIG" ]; do sleep 0.1; done
  for name in backend_failure rolling_restart; do as_a_cluster "$name"; done
fi
if [ -n "$all" ]; then
  check "$lane: every panel of the dashboard has shown something, every rule works" "$VENV/bin/python" ci/dashboard.py "$PROMETHEUS_URL"
fi
echo "chaos_$lane: took $SECONDS s; journals in $OUT/$lane"
