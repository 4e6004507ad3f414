#!/bin/sh
# The demo as plain processes on loopback, and what the experiments may do to them. Needs the built programs, curl, ps and prometheus.
#   eval "$(chaos/processes.sh up)"          starts three backends, the sidecar, two clients (one behind it, one straight to the first backend) and a
#                                            Prometheus; tells the experiments where they are
#   chaos/processes.sh kill backend          kills the first backend, as a crash would; likewise backends (all) and sidecar
#   chaos/processes.sh start backend         starts it again where it was, as its controller would; likewise backends and sidecar; nothing if they run
#   chaos/processes.sh restart backends      one after the other, each told to end and started again
#   chaos/processes.sh fault backend JSON    gives the first backend faults; {} heals it
#   chaos/processes.sh partition backend     what is sent to the first backend is lost without a word (root and nft); heal backend ends it
#   chaos/processes.sh dns gone              the backends' name is known no more (root, or user namespaces); dns back
#   chaos/processes.sh renew                 a fresh sidecar, with nothing counted, and healthy backends
#   chaos/processes.sh direct                where the first backend is now; client_log: what the client behind the sidecar has said
#   chaos/processes.sh down                  ends everything; the clients write their reports, with.json and without.json
# Process ids, logs and reports are in CHAOS_STATE (target/chaos), the programs in BIN (target/release, or where `make test` has built them).
set -eu
cd "$(dirname "$0")/.."

if [ -z "${BIN:-}" ]; then
  for BIN in target/release target/*-linux-*/release; do
    if [ -x "$BIN/outrigger" ]; then break; fi
  done
fi
STATE=${CHAOS_STATE:-target/chaos}
BACKENDS="1 2 3" # at 127.0.0.1, 127.0.0.2, 127.0.0.3, on one port
TABLE=outrigger_demo

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

# launch NAME COMMAND ARGUMENTS...
launch() {
  name=$1
  shift
  : >"$STATE/$name.log" # before anybody reads what the one before has said
  "$@" </dev/null >>"$STATE/$name.log" 2>&1 &
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

# launch_named NAME PROGRAM ARGUMENTS...: with an /etc/hosts of its own, where the backends' name stands as it would in a name service.
launch_named() {
  name=$1 program=$2
  shift 2
  if [ "$(id -u)" = 0 ]; then private=-m; else private=-rm; fi
  # shellcheck disable=SC2016 # for the inner shell
  launch "$name" unshare "$private" sh -c 'mount --bind "$0" /etc/hosts && exec "$@"' "$STATE/hosts" "$BIN/$program" "$@"
}

start_backend() {
  if runs "backend-$1" backend; then return; fi
  launch "backend-$1" "$BIN/backend" --listen "127.0.0.$1:$(cat "$STATE/port" 2>/dev/null || echo 0)" \
    --control "127.0.0.$1:$(cat "$STATE/control-$1" 2>/dev/null || echo 0)"
  # It has to come back where it was: who calls it straight knows no other place.
  said "backend-$1" 'listening on [0-9.]*:\([0-9]*\)' >"$STATE/port"
  said "backend-$1" 'control on [0-9.]*:\([0-9]*\)' >"$STATE/control-$1"
}

# Once it has addresses, it comes back to them.
start_sidecar() {
  if runs outrigger outrigger; then return; fi
  if [ -f "$STATE/app" ]; then
    sed -i -e "s/^app = \"[^\"]*\"/app = \"$(cat "$STATE/app")\"/" -e "s/^admin = \"[^\"]*\"/admin = \"$(cat "$STATE/admin")\"/" "$STATE/config.toml"
  fi
  launch_named outrigger outrigger --config "$STATE/config.toml"
  said outrigger '"message":"ready".*"app":"\([0-9.:]*\)"' >"$STATE/app"
  said outrigger '"message":"ready".*"admin":"\([0-9.:]*\)"' >"$STATE/admin"
}

each_backend() {
  for number in $BACKENDS; do "$@" "$number"; done
}

names() { each_backend printf '127.0.0.%s backend\n' >"$STATE/hosts"; }
kill_backend() { stop "backend-$1" backend KILL; }
# A pod is not back at once.
restart_backend() { stop "backend-$1" backend TERM && sleep 1 && start_backend "$1"; }
fault() { curl -sSf -m 5 -X PUT -d "$2" "http://127.0.0.$1:$(cat "$STATE/control-$1")/faults"; }

partition() {
  nft -f - <<NFT
table ip $TABLE {
  chain lost {
    type filter hook input priority 0
    ip daddr 127.0.0.1 tcp dport $(cat "$STATE/port") drop
    ip saddr 127.0.0.1 tcp sport $(cat "$STATE/port") drop
  }
}
NFT
}

heal() {
  if command -v nft >/dev/null && [ "$(id -u)" = 0 ]; then nft delete table ip "$TABLE" 2>/dev/null || true; fi # it need not be there
}

up() {
  down
  mkdir -p "$STATE"
  STATE=$(cd "$STATE" && pwd)
  rm -f "$STATE"/port "$STATE"/control-* "$STATE"/app "$STATE"/admin "$STATE"/*.json
  names
  each_backend start_backend
  port=$(cat "$STATE/port")
  # The configuration of the pods, with other addresses, and no pod to wait for at its end.
  sed -e "s/127.0.0.1:4140/127.0.0.1:0/" -e "s/0.0.0.0:4191/127.0.0.1:0/" -e "s/backend:5001/backend:$port/" \
    -e 's/^timeout = "25s"/timeout = "1s"/' k8s/base/config.toml >"$STATE/config.toml"
  start_sidecar
  app=$(cat "$STATE/app") admin=$(cat "$STATE/admin")
  launch with "$BIN/client" run "http://$app/" --forever --rate 20 --json "$STATE/with.json"
  launch_named without client run "http://127.0.0.1:$port/" --forever --rate 20 --json "$STATE/without.json"
  prometheus_url=$(CHAOS_STATE=$STATE sh chaos/prometheus.sh up 127.0.0.1 "$admin")
  # Where the backends' name means something.
  enter="nsenter -t $(cat "$STATE/without.pid") -m"
  if [ "$(id -u)" != 0 ]; then enter=; fi # then it means nothing to the experiments
  cat >"$STATE/enter" <<SH
#!/bin/sh
exec $enter sh -c 'cd "\$0" && exec "\$@"' "\$PWD" "\$@"
SH
  chmod +x "$STATE/enter"
  echo "export PROXY_URL=http://$app ADMIN_URL=http://$admin PROMETHEUS_URL=$prometheus_url" \
    "DIRECT_URL=http://127.0.0.1:$port NAMED_URL=http://backend:$port CHAOS_ENTER='$STATE/enter'" \
    "CHAOS_TARGET=chaos/processes.sh CHAOS_STATE='$STATE'"
}

renew() {
  heal
  names
  stop outrigger outrigger TERM
  each_backend start_backend
  each_backend fault_none
  start_sidecar
}

fault_none() { fault "$1" '{}' >/dev/null; }

down() {
  CHAOS_STATE=$STATE sh chaos/prometheus.sh down
  heal
  stop with client TERM
  stop without client TERM
  stop outrigger outrigger TERM
  each_backend kill_backend
}

case "${1:-} ${2:-}" in
  "up ") up ;;
  "down ") down ;;
  "renew ") renew ;;
  "kill backend") kill_backend 1 ;;
  "kill backends") each_backend kill_backend ;;
  "kill sidecar") stop outrigger outrigger KILL ;;
  "start backend") start_backend 1 ;;
  "start backends") each_backend start_backend ;;
  # Without anybody who starts it again, an experiment can show what that is worth.
  "start sidecar") [ -n "${CHAOS_ABANDON:-}" ] || start_sidecar ;;
  "restart backends") each_backend restart_backend ;;
  "fault backend") fault 1 "${3:?faults in JSON}" ;;
  "partition backend") partition ;;
  "heal backend") heal ;;
  "dns gone") : >"$STATE/hosts" ;;
  "dns back") names ;;
  "direct ") echo "http://127.0.0.1:$(cat "$STATE/port")" ;;
  "client_log ") cat "$STATE/with.log" ;;
  *) usage ;;
esac
