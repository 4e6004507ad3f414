#!/usr/bin/env bash
# What the product is made of: the list (SBOM), and cargo-deny where it is installed. Licences, duplicates and sources are also held by the test `supply`,
# which needs neither; advisories need cargo-deny and its clone of the database, which `cargo deny fetch` makes and nobody fetches here:
#   ADVISORY_DB=/folder/with/the/clone ci/supply.sh
set -euo pipefail
cd "$(dirname "$0")/.."

python3 ci/sbom.py "${OUT:-target/sbom}/outrigger.cdx.json"

if ! command -v cargo-deny >/dev/null; then
  echo "!!! NOT CHECKED: advisories (cargo install --locked cargo-deny)"
  exit
fi
cargo deny --offline check bans licenses sources
if [ -n "${ADVISORY_DB:-}" ]; then
  config=$(mktemp)
  trap 'rm -f "$config"' EXIT
  sed "s#^\[advisories\]#&\ndb-path = \"$ADVISORY_DB\"#" deny.toml >"$config"
  cargo deny --offline --config "$config" check advisories
else
  echo "!!! NOT CHECKED: advisories (set ADVISORY_DB)"
fi
