#!/bin/sh
# The demo of k8s/ as pods of podman, and what the experiments may do to them. Needs root, podman, kubectl (only its kustomize), nsenter, ip, curl,
# and the images of ci/images.sh. The same verbs as chaos/processes.sh:
#   eval "$(chaos/podman.sh up)"          plays the manifests: two backends, and the client with its sidecar; tells the experiments where they are
#   chaos/podman.sh kill backend          kills the first backend, as a crash would: its containers do not come back by themselves
#   chaos/podman.sh kill backends         kills both
#   chaos/podman.sh start backend         starts it again, under a new address, as the Deployment's controller would; likewise backends
#   chaos/podman.sh fault backend JSON    gives the first backend faults; {} heals it
#   chaos/podman.sh address POD           the address of a pod
#   chaos/podman.sh down                  removes everything
# The sidecar's app side is on the pod's loopback, so the experiments run in the pod's network (CHAOS_ENTER), and podman in the one outside (CHAOS_HOST).
set -eu
cd "$(dirname "$0")/.."

NETWORK=outrigger-demo
CONTAINERS_CONF=${CONTAINERS_CONF:-$PWD/ci/containers.conf}
export CONTAINERS_CONF

outside() { if [ -n "${CHAOS_HOST:-}" ]; then nsenter -t "$CHAOS_HOST" -n "$@"; else command "$@"; fi; }
podman() { outside podman "$@"; }

usage() {
  sed -n 's/^#   //p' "$0" >&2
  exit 2
}

# The names of the pods of one Deployment, in order.
pods_of() { podman pod ps --filter label=app="$1" --format '{{.Name}}' | sort; }

first_pod_of() { pods_of "$1" | head -n 1; }

# play WORKLOAD NETWORK-OPTIONS
play() {
  if ! kubectl kustomize "k8s/overlays/podman-$1" | podman kube play --replace --network "$2" - >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
  fi
}

up() {
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  podman network exists "$NETWORK" || podman network create "$NETWORK" >/dev/null
  # The alias stands for the Service: every pod of this play answers to it.
  play backend "$NETWORK:alias=backend"
  pin_bridge
  play client "$NETWORK"
  echo "export PROXY_URL=http://127.0.0.1:4140 ADMIN_URL=http://127.0.0.1:4191 DIRECT_URL=http://$(address "$(first_pod_of backend)"):5001" \
    "CHAOS_TARGET=chaos/podman.sh CHAOS_HOST=\$\$ CHAOS_ENTER='nsenter -t $(pid_of client-pod-0-client) -n'"
}

down() {
  for pod in $(pods_of backend) $(pods_of client); do
    podman pod rm -f -t 0 "$pod" >/dev/null
  done
  podman volume rm -f outrigger-config >/dev/null 2>&1 || true # not there if the client was never played
  if podman network exists "$NETWORK"; then podman network rm "$NETWORK" >/dev/null; fi
}

pid_of() { podman inspect "$1" --format '{{.State.Pid}}'; }

# A bridge has the lowest address of its ports, so it changes when that pod dies, and the other pods go on sending their DNS questions to
# the old one for half a minute. No cluster does that, so it is not what we want to see. An address that was set stays.
pin_bridge() {
  bridge=$(podman network inspect "$NETWORK" --format '{{.NetworkInterface}}')
  ip link set dev "$bridge" address "$(cat "/sys/class/net/$bridge/address")"
}

# every VERB: of all backends, one after the other.
every() {
  for pod in $(pods_of backend); do podman pod "$1" "$pod" >/dev/null; done
}

# The control port is on the pod's loopback.
fault() {
  nsenter -t "$(pid_of "$(first_pod_of backend)-backend")" -n curl -sSf -m 5 -X PUT -d "$1" http://127.0.0.1:5002/faults
}

address() {
  infra=$(podman pod inspect "$1" --format '{{.InfraContainerID}}')
  podman inspect "$infra" --format "{{(index .NetworkSettings.Networks \"$NETWORK\").IPAddress}}"
}

case "${1:-} ${2:-}" in
  "up ") up ;;
  "down ") down ;;
  "kill backend") podman pod kill "$(first_pod_of backend)" >/dev/null ;;
  "kill backends") every kill ;;
  "start backends") every start ;;
  "fault backend") fault "${3:?faults in JSON}" ;;
  "start backend") podman pod start "$(first_pod_of backend)" >/dev/null ;;
  "address "?*) address "$2" ;;
  *) usage ;;
esac
