#!/bin/sh
# The demo of k8s/ in the cluster of the current context, and what the experiments may do to it. The same verbs as chaos/processes.sh:
#   chaos/kubectl.sh up                   applies the manifests and waits for them; then, in another terminal, let the experiments reach the sidecar:
#                                         kubectl -n outrigger-demo port-forward deploy/client 4140 4191
#                                         and tell them where Prometheus is: PROMETHEUS_URL
#   chaos/kubectl.sh kill backend         deletes the first backend's pod at once; its controller makes another
#   chaos/kubectl.sh kill backends        scales to none
#   chaos/kubectl.sh start backend        waits until there are as many as there should be; start backends scales to that before
#   chaos/kubectl.sh restart backends     a rollout
#   chaos/kubectl.sh fault backend JSON   gives the first backend faults, by its control port, which is forwarded for the moment; {} heals it
#   chaos/kubectl.sh partition backend    the network's policy lets nobody reach the first backend any more; heal backend applies the old one
#   chaos/kubectl.sh dns gone             the network's policy lets the client ask no name server; dns back
#   chaos/kubectl.sh down                 deletes everything
# Partition and names need a network that enforces policies, on open connections too. A sidecar cannot be killed from outside its node.
set -eu
cd "$(dirname "$0")/.."

NAMESPACE=outrigger-demo
REPLICAS=3
CONTROL_PORT=5002
LOST=outrigger-demo/lost # a label

usage() {
  sed -n 's/^#   //p' "$0" >&2
  exit 2
}

in_namespace() { kubectl -n "$NAMESPACE" "$@"; }
await() { in_namespace rollout status "deployment/$1" --timeout=60s; }
scale() { in_namespace scale deployment/backend --replicas="$1"; }
first() {
  pod=$(in_namespace get pods -l app=backend -o name | sort | head -n 1)
  echo "${pod:?there is no backend}"
}

fault() {
  log=$(mktemp)
  in_namespace port-forward "$(first)" ":$CONTROL_PORT" >"$log" 2>&1 &
  forward=$!
  trap 'kill "$forward"; rm -f "$log"' EXIT
  tries=0
  until port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\).*/\1/p' "$log") && [ -n "$port" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { cat "$log" >&2; exit 1; }
    sleep 0.1
  done
  curl -sSf -m 5 -X PUT -d "$1" "http://127.0.0.1:$port/faults"
}

# Policies add up, so the one that lets the client in must no longer be about this pod; another one then lets in nobody.
partition() {
  in_namespace label --overwrite "$(first)" "$LOST=true"
  in_namespace patch networkpolicy backend --type=merge -p "{\"spec\":{\"podSelector\":{\"matchExpressions\":[{\"key\":\"$LOST\",\"operator\":\"DoesNotExist\"}]}}}"
  in_namespace apply -f - <<YAML
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: lost
spec:
  podSelector:
    matchLabels:
      $LOST: "true"
  policyTypes: [Ingress, Egress]
YAML
}

heal() {
  in_namespace delete networkpolicy lost --ignore-not-found
  in_namespace patch networkpolicy backend --type=json -p '[{"op":"remove","path":"/spec/podSelector/matchExpressions"}]'
  in_namespace label pods -l "$LOST" "$LOST-"
}

# The second rule of the client's policy is the one for names.
hide_names() { in_namespace patch networkpolicy client --type=json -p '[{"op":"remove","path":"/spec/egress/1"}]'; }

case "${1:-} ${2:-}" in
  "up ") kubectl apply -k k8s/ && await backend && await client ;;
  "down ") kubectl delete -k k8s/ ;;
  "kill backend") in_namespace delete "$(first)" --grace-period=0 --force --wait=false ;;
  "kill backends") scale 0 ;;
  "start backend") await backend ;;
  "start backends") scale "$REPLICAS" && await backend ;;
  "restart backends") in_namespace rollout restart deployment/backend && await backend ;;
  "fault backend") fault "${3:?faults in JSON}" ;;
  "partition backend") partition ;;
  "heal backend") heal ;;
  "dns gone") hide_names ;;
  "dns back") kubectl apply -k k8s/ ;;
  *) usage ;;
esac
