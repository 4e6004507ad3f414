#!/bin/sh
# The demo as plain processes on loopback, and what the experiments may do to them. Needs nothing but the built programs, curl and ps.
#   eval "$(chaos/processes.sh up)"          starts two backends, the sidecar, and two clients: one behind it, one straight to the first backend;
#                                            tells the experiments where they are
#   chaos/processes.sh kill backend          kills the first backend, as a crash would
#   chaos/processes.sh kill backends         kills both
#   chaos/processes.sh start backend         starts it again where it was, as its controller would; likewise backends; nothing if they run
#   chaos/processes.sh fault backend JSON    gives the first backend faults; {} heals it
#   chaos/processes.sh down                  ends everything; the clients write their reports, with.json and without.json
# Process ids, logs and reports are in CHAOS_STATE (target/chaos), the programs in BIN (target/release).
set -eu
cd "$(dirname "$0")/.."

BIN=${BIN:-target/release}
STATE=${CHAOS_STATE:-target/chaos}
# A backend's memory of its port lies in the address that it once got; before that, any is good.
ANY=127.0.0.1:0

usage() {
  sed -n 's/^#   //p' "$0" >&2
  exit 2
}

# runs NAME PROGRAM: whether the process that was started under this name still is that program.
runs() {
  [ -f "$STATE/$1.pid" ] || return 1
  case "$(ps -o stat= -o comm= -p "$(cat "$STATE/$1.pid")")" in
    Z*) return 1 ;; # dead, and only not yet noticed by its parent
    *"$2") return 0 ;;
    *) return 1 ;;
  esac
}

# launch NAME PROGRAM ARGUMENTS...
launch() {
  name=$1 program=$2
  shift 2
  : >"$STATE/$name.log" # before anybody reads what the one before has said
  "$BIN/$program" "$@" </dev/null >>"$STATE/$name.log" 2>&1 &
  echo $! >"$STATE/$name.pid"
}

# stop NAME PROGRAM SIGNAL: and waits for its end.
stop() {
  if runs "$1" "$2"; then
    kill -s "$3" "$(cat "$STATE/$1.pid")"
    tries=0
    while runs "$1" "$2"; do
      tries=$((tries + 1))
      [ "$tries" -lt 100 ] || kill -s KILL "$(cat "$STATE/$1.pid")"
      sleep 0.1
    done
  fi
  rm -f "$STATE/$1.pid"
}

# said NAME PATTERN: what the first group of the pattern matches in a log, as soon as it does.
said() {
  tries=0
  while :; do
    found=$(sed -n "s/.*$2.*/\\1/p" "$STATE/$1.log" | head -n 1)
    [ -z "$found" ] || break
    tries=$((tries + 1))
    if [ "$tries" -ge 100 ]; then
      cat "$STATE/$1.log" >&2
      exit 1
    fi
    sleep 0.1
  done
  echo "$found"
}

start_backend() {
  if runs "$1" backend; then return; fi
  launch "$1" backend --listen "$(cat "$STATE/$1.data" 2>/dev/null || echo "$ANY")" \
    --control "$(cat "$STATE/$1.control" 2>/dev/null || echo "$ANY")"
  data=$(said "$1" 'listening on \([0-9.:]*\)')
  echo "$data" >"$STATE/$1.data"
  said "$1" 'control on \([0-9.:]*\)' >"$STATE/$1.control"
}

up() {
  down
  mkdir -p "$STATE"
  rm -f "$STATE"/*.data "$STATE"/*.control "$STATE"/*.json
  start_backend backend-1
  start_backend backend-2
  first=$(cat "$STATE/backend-1.data") second=$(cat "$STATE/backend-2.data")
  # The configuration of the pods, with other addresses, and no pod to wait for at its end.
  sed -e "s/127.0.0.1:4140/$ANY/" -e "s/0.0.0.0:4191/$ANY/" -e "s/\"backend:5001\"/\"$first\", \"$second\"/" \
    -e 's/^timeout = "25s"/timeout = "1s"/' k8s/base/config.toml >"$STATE/config.toml"
  launch outrigger outrigger --config "$STATE/config.toml"
  app=$(said outrigger '"message":"ready".*"app":"\([0-9.:]*\)"')
  admin=$(said outrigger '"message":"ready".*"admin":"\([0-9.:]*\)"')
  launch with client run "http://$app/" --forever --rate 20 --json "$STATE/with.json"
  launch without client run "http://$first/" --forever --rate 20 --json "$STATE/without.json"
  echo "export PROXY_URL=http://$app ADMIN_URL=http://$admin DIRECT_URL=http://$first CHAOS_TARGET=chaos/processes.sh"
}

down() {
  stop with client TERM
  stop without client TERM
  stop outrigger outrigger TERM
  stop backend-1 backend TERM
  stop backend-2 backend TERM
}

case "${1:-} ${2:-}" in
  "up ") up ;;
  "down ") down ;;
  "kill backend") stop backend-1 backend KILL ;;
  "kill backends") stop backend-1 backend KILL && stop backend-2 backend KILL ;;
  "start backend") start_backend backend-1 ;;
  "start backends") start_backend backend-1 && start_backend backend-2 ;;
  "fault backend") curl -sSf -m 5 -X PUT -d "${3:?faults in JSON}" "http://$(cat "$STATE/backend-1.control")/faults" ;;
  *) usage ;;
esac
