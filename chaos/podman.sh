#!/bin/sh
# The demo of k8s/ as pods of podman, and what the experiments may do to them. Needs root, podman, kubectl (only its kustomize), nsenter, ip, nft,
# curl, prometheus and the images of ci/images.sh. The same verbs as chaos/processes.sh:
#   eval "$(chaos/podman.sh up)"             plays the manifests: three backends, and the client with its sidecar; starts a Prometheus beside them; tells
#                                            the experiments where they are
#   chaos/podman.sh kill backend             kills the first backend, as a crash would: its containers do not come back by themselves; likewise backends
#   chaos/podman.sh kill sidecar             kills the sidecar's process: podman restarts the container, as a kubelet would
#   chaos/podman.sh start backend            starts it again, under a new address, as the Deployment's controller would; likewise backends and sidecar
#   chaos/podman.sh restart backends         one after the other, each told to end and started again
#   chaos/podman.sh fault backend JSON       gives the first backend faults; {} heals it
#   chaos/podman.sh partition backend        what is sent to the first backend is lost without a word; heal backend ends it
#   chaos/podman.sh dns gone                 the name service does not respond to the client's pod any more; dns back
#   chaos/podman.sh renew                    a fresh sidecar, with nothing counted, and healthy backends
#   chaos/podman.sh play job                 plays the Job of k8s/examples as a pod
#   chaos/podman.sh address POD              the address of a pod
#   chaos/podman.sh direct                   where the first backend is now; client_log: what the client behind the sidecar has said
#   chaos/podman.sh down                     removes everything
# The sidecar's app side is on the pod's loopback, so the experiments run in the pod's network (CHAOS_ENTER), and podman in the one outside (CHAOS_HOST).
set -eu
cd "$(dirname "$0")/.."

NETWORK=outrigger-demo
STATE=${CHAOS_STATE:-target/chaos}
TABLE=outrigger_demo
CONTAINERS_CONF=${CONTAINERS_CONF:-$PWD/ci/containers.conf}
export CONTAINERS_CONF

outside() { if [ -n "${CHAOS_HOST:-}" ]; then nsenter -t "$CHAOS_HOST" -n -m "$@"; else command "$@"; fi; }
podman() { outside podman "$@"; }

usage() {
  sed -n 's/^#   //p' "$0" >&2
  exit 2
}

# The names of the pods of one Deployment, in order.
pods_of() { podman pod ps --filter label=app="$1" --format '{{.Name}}' | sort; }

first_pod_of() { pods_of "$1" | head -n 1; }

# play WORKLOAD NETWORK-OPTIONS [OPTION...]
play() {
  workload=$1 network=$2
  shift 2
  if ! kubectl kustomize "k8s/overlays/podman-$workload" | podman kube play --replace --network "$network" "$@" - >"$STATE/play.log" 2>&1; then
    cat "$STATE/play.log" >&2
    exit 1
  fi
}

# As a kubelet does it below 1.29: the second container waits for the postStart of the first.
play_job() {
  play job "$NETWORK" --start=false
  podman start once-outrigger >/dev/null
  podman exec once-outrigger /outrigger ready
  podman start once-client >/dev/null
}

up() {
  down
  mkdir -p "$STATE"
  STATE=$(cd "$STATE" && pwd)
  podman network exists "$NETWORK" || podman network create "$NETWORK" >/dev/null
  # The alias stands for the Service: every pod of this play answers to it.
  play backend "$NETWORK:alias=backend"
  pin_bridge
  play client "$NETWORK"
  gateway=$(podman network inspect "$NETWORK" --format '{{(index .Subnets 0).Gateway}}')
  prometheus_url=$(CHAOS_STATE=$STATE sh chaos/prometheus.sh up "$gateway" "$(address client-pod-0):4191")
  # The network of the client's pod, and where its names are looked up.
  cat >"$STATE/enter" <<SH
#!/bin/sh
exec nsenter -t $(pid_of client-pod-0-client) -n unshare -m \\
  sh -c 'mount --bind "\$0" /etc/resolv.conf && exec "\$@"' '$(podman inspect client-pod-0-client --format '{{.ResolvConfPath}}')' "\$@"
SH
  chmod +x "$STATE/enter"
  echo "export PROXY_URL=http://127.0.0.1:4140 ADMIN_URL=http://127.0.0.1:4191 PROMETHEUS_URL=$prometheus_url" \
    "DIRECT_URL=http://$(address "$(first_pod_of backend)"):5001 NAMED_URL=http://backend:5001" \
    "CHAOS_TARGET=chaos/podman.sh CHAOS_HOST=\$\$ CHAOS_ENTER='$STATE/enter' CHAOS_STATE='$STATE'"
}

down() {
  CHAOS_STATE=$STATE sh chaos/prometheus.sh down
  for pod in $(pods_of backend) $(pods_of client) $(pods_of once); do
    podman pod rm -f -t 0 "$pod" >/dev/null
  done
  for volume in $(podman volume ls -q --filter name=outrigger-config); do podman volume rm -f "$volume" >/dev/null; done
  if podman network exists "$NETWORK"; then podman network rm "$NETWORK" >/dev/null; fi
}

pid_of() { podman inspect "$1" --format '{{.State.Pid}}'; }

# A bridge has the lowest address of its ports, so it changes when that pod dies, and the other pods go on sending their DNS questions to
# the old one for half a minute. No cluster does that, so it is not what we want to see. An address that was set stays.
pin_bridge() {
  bridge=$(podman network inspect "$NETWORK" --format '{{.NetworkInterface}}')
  outside ip link set dev "$bridge" address "$(outside cat "/sys/class/net/$bridge/address")"
}

# every VERB OPTIONS: of all backends, one after the other.
every() {
  for pod in $(pods_of backend); do podman pod "$@" "$pod" >/dev/null; done
}

restart_backends() {
  for pod in $(pods_of backend); do
    podman pod stop -t 10 "$pod" >/dev/null
    podman pod start "$pod" >/dev/null
    sleep 1 # a Deployment's controller waits for readiness
  done
}

# The control port is on the pod's loopback.
fault() {
  nsenter -t "$(pid_of "$1-backend")" -n curl -sSf -m 5 -X PUT -d "$2" http://127.0.0.1:5002/faults
}

# in_client COMMAND...: in the network of the client's pod, which outlives its containers' processes.
in_client() { nsenter -t "$(podman inspect "$(podman pod inspect client-pod-0 --format '{{.InfraContainerID}}')" --format '{{.State.Pid}}')" -n "$@"; }

# lose RULE...: packets of the client's pod for which a rule holds, either way, vanish.
lose() {
  {
    echo "table ip $TABLE { chain lost_out {"
    echo "type filter hook output priority 0"
    for rule in "$@"; do echo "$rule drop"; done
    echo "}"
    echo "}"
  } | in_client nft -f -
}

find_again() { in_client nft delete table ip "$TABLE" 2>/dev/null || true; } # nothing may be lost

# It dies by itself, so podman restarts it; what `podman kill` kills stays dead. A container that is not running has the process id 0.
kill_sidecar() {
  if [ -n "${CHAOS_ABANDON:-}" ]; then
    podman kill client-pod-0-outrigger >/dev/null
    return
  fi
  pid=$(pid_of client-pod-0-outrigger)
  [ "$pid" -gt 1 ] && kill -s KILL "$pid"
}

# Waits until podman has restarted it; without anybody who does, an experiment can show what that is worth.
start_sidecar() {
  if [ -n "${CHAOS_ABANDON:-}" ]; then return; fi
  tries=0
  while [ "$(podman inspect client-pod-0-outrigger --format '{{.State.Running}}')" != true ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 50 ] || exit 1
    sleep 0.1
  done
}

renew() {
  find_again
  every start
  for pod in $(pods_of backend); do fault "$pod" '{}' >/dev/null; done
  podman restart -t 0 client-pod-0-outrigger >/dev/null
}

address() {
  infra=$(podman pod inspect "$1" --format '{{.InfraContainerID}}')
  podman inspect "$infra" --format "{{(index .NetworkSettings.Networks \"$NETWORK\").IPAddress}}"
}

case "${1:-} ${2:-}" in
  "up ") up ;;
  "down ") down ;;
  "renew ") renew ;;
  "kill backend") podman pod kill "$(first_pod_of backend)" >/dev/null ;;
  "kill backends") every kill ;;
  "kill sidecar") kill_sidecar ;;
  "start backend") podman pod start "$(first_pod_of backend)" >/dev/null ;;
  "start backends") every start ;;
  "start sidecar") start_sidecar ;;
  "restart backends") restart_backends ;;
  "fault backend") fault "$(first_pod_of backend)" "${3:?faults in JSON}" ;;
  "partition backend") lose "ip daddr $(address "$(first_pod_of backend)")" ;;
  "heal backend") find_again ;;
  "dns gone") lose "udp dport 53" "tcp dport 53" ;;
  "dns back") find_again ;;
  "direct ") echo "http://$(address "$(first_pod_of backend)"):5001" ;;
  "client_log ") podman logs client-pod-0-client 2>&1 ;;
  "play job") play_job ;;
  "address "?*) address "$2" ;;
  *) usage ;;
esac
