#!/bin/bash
# install_packages.sh SECTION...
# Installs the packages of tools/packages.txt under the sections named (build, test, deep). Does nothing, and needs no
# root and no network, where they are installed already.
set -eu
cd "$(dirname "$0")"

fail() { echo "install_packages.sh: $*" >&2; exit 1; }

[ $# -gt 0 ] || fail "name at least one section: $(sed -n 's/^\[\(.*\)\]$/\1/p' packages.txt | tr '\n' ' ')"
wanted=()
for section in "$@"; do
  grep -qx "\[$section\]" packages.txt || fail "there is no section [$section] in packages.txt"
  mapfile -t -O ${#wanted[@]} wanted < <(
    sed -n "/^\[$section\]$/,/^\[/{/^\[/d;s/[[:space:]]*#.*//;/./p}" packages.txt)
done

command -v dpkg-query >/dev/null ||
  fail "this is no Debian system; quern needs what these packages hold: ${wanted[*]}"

missing=()
for package in "${wanted[@]}"; do
  status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) || status=none
  [ "$status" = "install ok installed" ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "packages: all ${#wanted[@]} are installed"
  exit 0
fi

echo "packages: installing ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null ||
    fail "these packages are missing, and installing them needs root (there is no sudo); as root run
  apt-get update && apt-get install ${missing[*]}"
  as_root=(sudo)
fi
apt_get() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get -q -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@" </dev/null
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt_get update && apt_get install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  fail "apt-get could not install: ${missing[*]}"
fi
