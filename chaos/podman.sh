#!/bin/sh
# The demo of k8s/ as pods of podman, and what the experiments may do to them. Needs root, podman, kubectl (only its kustomize) and the images.
#   chaos/podman.sh up              plays the manifests: two backends, and the client with its sidecar
#   chaos/podman.sh kill backend    kills the first backend, as a crash would: its containers do not come back by themselves
#   chaos/podman.sh start backend   starts it again, under a new address, as the Deployment's controller would
#   chaos/podman.sh address POD     the address of a pod
#   chaos/podman.sh down            removes everything
set -eu
cd "$(dirname "$0")/.."

NETWORK=outrigger-demo
CONTAINERS_CONF=${CONTAINERS_CONF:-$PWD/ci/containers.conf}
export CONTAINERS_CONF

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
  play client "$NETWORK"
}

down() {
  for pod in $(pods_of backend) $(pods_of client); do
    podman pod rm -f -t 0 "$pod" >/dev/null
  done
  podman volume rm -f outrigger-config >/dev/null 2>&1 || true # not there if the client was never played
  if podman network exists "$NETWORK"; then podman network rm "$NETWORK" >/dev/null; fi
}

address() {
  infra=$(podman pod inspect "$1" --format '{{.InfraContainerID}}')
  podman inspect "$infra" --format "{{(index .NetworkSettings.Networks \"$NETWORK\").IPAddress}}"
}

case "${1:-} ${2:-}" in
  "up ") up ;;
  "down ") down ;;
  "kill backend") podman pod kill "$(first_pod_of backend)" >/dev/null ;;
  "start backend") podman pod start "$(first_pod_of backend)" >/dev/null ;;
  "address "?*) address "$2" ;;
  *) usage ;;
esac
