#!/bin/sh
# A Prometheus for the demo, which scrapes its sidecar every second with the rules of k8s/monitoring/. Called by the `up` of processes.sh and podman.sh.
#   chaos/prometheus.sh up ADDRESS TARGET    on any free port of ADDRESS; says its URL once it has seen the app being served through the sidecar
#   chaos/prometheus.sh down                 ends it and forgets what it has seen
# Its process id, log and data are in CHAOS_STATE (target/chaos).
set -eu
cd "$(dirname "$0")/.."

STATE=${CHAOS_STATE:-target/chaos}
SETTLED='sum(rate(outrigger_requests_total{outcome="success"}[5s])) > 5'

usage() {
  sed -n 's/^#   //p' "$0" >&2
  exit 2
}

is_ours() { [ -f "$STATE/prometheus.pid" ] && case "$(ps -o stat= -o comm= -p "$(cat "$STATE/prometheus.pid")")" in Z*) false ;; *prometheus) ;; *) false ;; esac; }

# Prometheus does not tell which port it was given for port 0, so it is asked for a free one.
free_port() { python3 -c 'import socket, sys; s = socket.socket(); s.bind((sys.argv[1], 0)); print(s.getsockname()[1])' "$1"; }

ask() { curl -s -m 2 --get --data-urlencode "query=$1" "$url/api/v1/query"; }

up() {
  down
  mkdir -p "$STATE"
  address=$1:$(free_port "$1")
  cat >"$STATE/prometheus.yml" <<YML
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: ["$PWD/k8s/monitoring/rules.yml"]
scrape_configs:
  - job_name: sidecar
    static_configs: [{targets: ["$2"]}]
YML
  prometheus --config.file="$STATE/prometheus.yml" --storage.tsdb.path="$STATE/tsdb" --web.listen-address="$address" \
    --log.level=warn </dev/null >"$STATE/prometheus.log" 2>&1 &
  echo $! >"$STATE/prometheus.pid"
  url=http://$address
  tries=0
  until ask "$SETTLED" | grep -q '"value"'; do
    tries=$((tries + 1))
    if [ "$tries" -ge 150 ]; then
      echo "Prometheus has not seen the sidecar at work within 30 s:" >&2
      cat "$STATE/prometheus.log" >&2
      exit 1
    fi
    sleep 0.2
  done
  echo "$url"
}

down() {
  if is_ours; then
    kill "$(cat "$STATE/prometheus.pid")"
    tries=0
    while is_ours; do
      tries=$((tries + 1))
      [ "$tries" -lt 100 ] || kill -s KILL "$(cat "$STATE/prometheus.pid")"
      sleep 0.1
    done
  fi
  rm -rf "$STATE/prometheus.pid" "$STATE/tsdb"
}

case "${1:-}" in
  up) up "${2:?address}" "${3:?target}" ;;
  down) down ;;
  *) usage ;;
esac
