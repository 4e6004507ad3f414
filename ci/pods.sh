#!/usr/bin/env bash
# The manifests of k8s/ as real pods of podman: does the sidecar serve its client, answer a kubelet, find a backend that comes back under another
# address, take over a new configuration, and drain? Takes half a minute; needs root, podman, kubectl, nsenter, curl and the images of ci/images.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
export CONTAINERS_CONF="${CONTAINERS_CONF:-$PWD/ci/containers.conf}"

PATIENCE_S=20
page=$(mktemp)
CLIENT=client-pod-0

for tool in podman kubectl nsenter curl; do
  command -v "$tool" >/dev/null && continue
  echo "pods: not run, $tool is missing"
  [ "${CI:-}" != true ]
  exit
done

pods() { sh chaos/podman.sh "$@"; }

end() {
  status=$?
  if [ "$status" != 0 ]; then
    echo "pods: FAILED; the last lines of each container:"
    for container in $(podman ps -a --format '{{.Names}}' | grep -E '^(backend|client)-pod-'); do
      echo "--- $container"
      podman logs --tail 8 "$container" 2>&1 || true
    done
  fi
  pods down
  rm -f "$page"
  exit "$status"
}
trap end EXIT

said() { printf 'ok    %s\n' "$*"; }

# until_true WHAT COMMAND...: waits for the command to succeed, but not for ever.
until_true() {
  local what=$1 end=$((SECONDS + PATIENCE_S))
  shift
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "not within $PATIENCE_S s: $what"
      exit 1
    fi
    sleep 0.2
  done
  said "$what"
}

state() { podman inspect --format "$2" "$1"; }
in_pod() { nsenter -t "$(state $CLIENT-client '{{.State.Pid}}')" -n -- "$@"; }
greets() { in_pod curl -sf -m 2 http://127.0.0.1:4140/ | grep -q 'Hello from Backend!'; }
admin() { curl -sf -m 2 "http://$client_ip:4191$1"; }
metrics() { admin /metrics >"$page"; }
has_metric() { metrics && grep -q "^$1" "$page"; }
lacks_metric() { metrics && ! grep -q "^$1" "$page"; }
# Seconds in which requests of the client failed.
bad_seconds() { podman logs $CLIENT-client 2>&1 | grep ' failed ' | grep -vc ' 0 failed' || true; }
# The client has had three seconds in a row without a failure.
all_well() {
  local lines
  lines=$(podman logs --tail 3 $CLIENT-client 2>&1)
  [ "$(grep -c ' 0 failed' <<<"$lines")" = 3 ] && ! grep -q ' 0 ended' <<<"$lines"
}
is_refused() { ! curl -s -m 2 "http://$client_ip:4140/" >/dev/null; }

pods down
pods up >/dev/null
client_ip=$(pods address $CLIENT)

until_true "the pod is ready for a kubelet at its own address" admin /readyz
until_true "and alive" admin /livez
until_true "the client, which knows only 127.0.0.1:4140, is served" all_well
until_true "so is curl beside it" greets
is_refused
said "nobody outside the pod is"
confinement=$(cat "/proc/$(state $CLIENT-outrigger '{{.State.Pid}}')/status")
for line in 'Uid:	65532' 'CapEff:	0000000000000000' 'NoNewPrivs:	1' 'Seccomp:	2'; do
  grep -q "^$line" <<<"$confinement"
done
said "the sidecar runs as 65532, without capabilities, confined"

bad_before=$(bad_seconds)
old_ip=$(pods address backend-pod-0)
pods kill backend
until_true "a backend that is gone is forgotten" lacks_metric "outrigger_endpoint_connections{endpoint=\"$old_ip:5001\""
until_true "the client is served by the other one" all_well
pods start backend
new_ip=$(pods address backend-pod-0)
[ "$new_ip" != "$old_ip" ]
until_true "it is found again under another address" has_metric "outrigger_endpoint_connections{endpoint=\"$new_ip:5001\""
podman pod stop -t 1 backend-pod-1 >/dev/null
until_true "and serves alone" all_well
[ "$(bad_seconds)" = "$bad_before" ]
said "the client has noticed nothing of all that"

folder=$(podman volume inspect --format '{{.Mountpoint}}' outrigger-config)
sed 's/^format = "json"$/&\naccess = true/' k8s/base/config.toml >"$folder/config.toml"
until_true "a new configuration is taken over while it runs" has_metric 'outrigger_config_generation 2'

# As a kubelet stops a pod with a native sidecar: first the app, then the sidecar, each with SIGTERM.
for container in client outrigger; do
  podman stop -t 30 "$CLIENT-$container" >/dev/null
  [ "$(state "$CLIENT-$container" '{{.State.ExitCode}}')" = 0 ]
  said "SIGTERM: $container ends with 0"
done
podman logs "$CLIENT-outrigger" 2>&1 | grep -q '"message":"drained"'
said "the sidecar has drained"
echo "pods: all checks passed in $SECONDS s"
