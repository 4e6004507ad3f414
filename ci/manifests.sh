#!/usr/bin/env bash
# The manifests, the rules and the dashboard, without a cluster: against the schemas of Kubernetes, the restricted profile, and each other.
#   ci/manifests.sh          checks
#   ci/manifests.sh write    writes the operator's rules from k8s/monitoring/rules.yml
set -euo pipefail
cd "$(dirname "$0")/.."
. ci/checks.sh
needs manifests promtool=prometheus python3=python3,python3-venv
needs_venv manifests
needs_kustomize manifests

promtool test rules k8s/monitoring/rules_test.yml
exec "$VENV/bin/python" ci/manifests.py "$@"
