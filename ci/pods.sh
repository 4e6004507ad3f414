#!/usr/bin/env bash
# The manifests of k8s/ as real pods of podman: does the sidecar serve its client, answer a kubelet, find a backend that comes back under another
# address, take over a new configuration, and drain? Does a Job with it end? And is nothing left of all that, even if it is interrupted?
# Takes a minute; needs root and the images of ci/images.sh, and installs the rest where it may (ci/checks.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/checks.sh
needs_podman pods
needs pods python3=python3,python3-venv prometheus=prometheus ps=procps

PATIENCE_S=20
CLIENT=client-pod-0
OUT=${OUT:-target/pods}
export CHAOS_STATE="$OUT/demo"
mkdir -p "$OUT"
page=$OUT/metrics

pods() { sh chaos/podman.sh "$@"; }

end() {
  status=$?
  trap '' INT TERM
  if [ "$status" != 0 ]; then
    bad "ended with $status; the last lines of each container:"
    for container in $(podman ps -a --format '{{.Names}}' | grep -E '^(backend|client|once)-pod'); do
      echo "--- $container"
      podman logs --tail 8 "$container" 2>&1 || true
    done
  fi
  pods down
  nothing_is_left pods leftovers "$CHAOS_STATE"
  summary pods
}
trap end EXIT
trap 'exit 130' INT TERM

# until_true WHAT COMMAND...: waits for the command to succeed, but not for ever.
until_true() {
  local what=$1 end=$((SECONDS + PATIENCE_S))
  shift
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -ge "$end" ]; then
      bad "not within $PATIENCE_S s: $what"
      exit 1
    fi
    sleep 0.2
  done
  ok "$what"
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
# ended CONTAINER...: all of them.
ended() {
  local container
  for container in "$@"; do [ "$(state "$container" '{{.State.Status}}')" = exited ] || return 1; done
}
# is_status STATUS COMMAND...: of a curl.
is_status() {
  local wanted=$1
  shift
  [ "$("$@" -s -m 2 -o "$page" -w '%{http_code}')" = "$wanted" ]
}
is_refused() { ! curl -s -m 2 "http://$client_ip:4140/" >/dev/null; }
is_confined() {
  local status line
  status=$(cat "/proc/$(state $CLIENT-outrigger '{{.State.Pid}}')/status")
  for line in 'Uid:	65532' 'CapEff:	0000000000000000' 'NoNewPrivs:	1' 'Seccomp:	2'; do
    grep -q "^$line" <<<"$status" || return 1
  done
}

pods up >"$OUT/env"
eval "$(cat "$OUT/env")"
client_ip=$(pods address $CLIENT)

until_true "the pod is ready for a kubelet at its own address" admin /readyz
until_true "and alive" admin /livez
until_true "the client, which knows only 127.0.0.1:4140, is served" all_well
until_true "so is curl beside it" greets
check "nobody outside the pod is" is_refused
check "the sidecar runs as 65532, without capabilities, confined" is_confined
until_true "names are looked up in an image that has nothing but the program" has_metric 'outrigger_name_lookups_total{result="ok"'

bad_before=$(bad_seconds)
old_ip=$(pods address backend-pod-0)
pods kill backend
until_true "a backend that is gone is forgotten" lacks_metric "outrigger_endpoint_connections{endpoint=\"$old_ip:5001\""
until_true "the client is served by the others" all_well
pods start backend
new_ip=$(pods address backend-pod-0)
check "a backend comes back with another address" [ "$new_ip" != "$old_ip" ]
until_true "where it is found again" has_metric "outrigger_endpoint_connections{endpoint=\"$new_ip:5001\""
podman pod stop -t 1 backend-pod-1 backend-pod-2 >/dev/null
until_true "and serves alone" all_well
check "the client has noticed nothing of all that" [ "$(bad_seconds)" = "$bad_before" ]

pods play job
ok "a Job's app waits for its sidecar, as a postStart makes it"
until_true "a Job's pod comes to its end, because its app ends the sidecar" ended once-client once-outrigger
for container in once-client once-outrigger; do check "$container has ended with 0" [ "$(state "$container" '{{.State.ExitCode}}')" = 0 ]; done
check "after its 200 requests" grep -q '^succeeded *200 ' <(podman logs once-client)
check "nobody can end the client's sidecar from outside its pod" is_status 405 curl -X POST "http://$client_ip:4191/quitquitquit"
check "nor from within, where it is not allowed" is_status 405 in_pod curl -X POST "http://127.0.0.1:4191/quitquitquit"

folder=$(podman volume inspect --format '{{.Mountpoint}}' outrigger-config)
sed 's/^format = "json"$/&\naccess = true/' k8s/base/config.toml >"$folder/config.toml"
until_true "a new configuration is taken over while it runs" has_metric 'outrigger_config_generation 2'
echo nonsense >"$folder/config.toml"
until_true "one that is nonsense is refused, and told" has_metric 'outrigger_config_last_reload_successful 0'
check "and the client is served on" greets

# As a kubelet stops a pod with a native sidecar: first the app, then the sidecar, each with SIGTERM.
for container in client outrigger; do
  podman stop -t 30 "$CLIENT-$container" >/dev/null
  check "SIGTERM: $container ends with 0" [ "$(state "$CLIENT-$container" '{{.State.ExitCode}}')" = 0 ]
done
check "the sidecar has drained" grep -q '"message":"drained"' <(podman logs "$CLIENT-outrigger" 2>&1)
pods down

# is_interrupted SIGNAL: a run of experiments that is told to end when its pods are there; in a process group of its own, as a terminal makes one.
is_interrupted() (
  export OUT=$OUT/interrupted
  rm -rf "$OUT"
  mkdir -p "$OUT"
  set -m # a group, and no signal ignored
  ci/chaos.sh podman backend_failure >"$OUT/log" 2>&1 </dev/null &
  group=$!
  set +m
  until [ -s "$OUT/podman/env" ] || ! kill -0 "$group" 2>/dev/null; do sleep 0.2; done
  pods_there=$(podman pod ps --format '{{.Name}}' | grep -c pod)
  sleep "$2"
  kill -s "$1" -- "-$group"
  if wait "$group" || [ "$pods_there" -lt 4 ] || [ -n "$(leftovers "$OUT/podman/demo")" ]; then
    leftovers "$OUT/podman/demo"
    cat "$OUT/log"
    return 1
  fi
)
check "Ctrl-C in the middle of an experiment leaves nothing behind" is_interrupted INT 5
check "nor does SIGTERM before it" is_interrupted TERM 1
