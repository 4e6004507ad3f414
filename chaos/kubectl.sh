#!/bin/sh
# The demo of k8s/ in the cluster of the current context, and what the experiments may do to it. The same verbs as chaos/processes.sh:
#   chaos/kubectl.sh up               applies the manifests and waits for them; then, in another terminal, let the experiments reach the sidecar:
#                                     kubectl -n outrigger-demo port-forward deploy/client 4140 4191
#   chaos/kubectl.sh kill backend     deletes the first backend's pod at once; its controller makes another
#   chaos/kubectl.sh kill backends    scales to none
#   chaos/kubectl.sh start backend    waits until there are two; start backends scales to two before that
#   chaos/kubectl.sh down             deletes everything
# Faults of a backend are not among them: its control port is on its pod's loopback. So of the experiments backend_failure and outage run here.
set -eu
cd "$(dirname "$0")/.."

NAMESPACE=outrigger-demo
REPLICAS=2

usage() {
  sed -n 's/^#   //p' "$0" >&2
  exit 2
}

in_namespace() { kubectl -n "$NAMESPACE" "$@"; }
await() { in_namespace rollout status "deployment/$1" --timeout=60s; }
scale() { in_namespace scale deployment/backend --replicas="$1"; }

kill_one() {
  pod=$(in_namespace get pods -l app=backend -o name | sort | head -n 1)
  in_namespace delete "${pod:?there is no backend}" --grace-period=0 --force --wait=false
}

case "${1:-} ${2:-}" in
  "up ") kubectl apply -k k8s/ && await backend && await client ;;
  "down ") kubectl delete -k k8s/ ;;
  "kill backend") kill_one ;;
  "kill backends") scale 0 ;;
  "start backend") await backend ;;
  "start backends") scale "$REPLICAS" && await backend ;;
  *) usage ;;
esac
