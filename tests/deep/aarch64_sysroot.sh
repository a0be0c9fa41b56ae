#!/bin/bash
# aarch64_sysroot.sh FOLDER PACKAGE...
# Unpacks Debian's arm64 packages, with all that they depend on, into FOLDER. Needs no root and leaves the system's own
# package lists alone. Exits with 77 where apt does not answer.
set -eu
folder=$1
shift
[ "$(cat "$folder/.packages" 2>/dev/null)" = "$*" ] && exit 0

skip() { echo "skipped: $*" >&2; exit 77; }
command -v apt-get >/dev/null || skip "there is no apt"
rm -rf "$folder"
mkdir -p "$folder"
folder=$(realpath "$folder")
apt=$folder/.apt
mkdir -p "$apt"/{lists/partial,cache/archives/partial}
: >"$apt/status"
apt_get() {
  apt-get -q -y -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Acquire::Languages=none \
    -o APT::Install-Recommends=false -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" \
    -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root -o Debug::NoLocking=1 -o Acquire::Retries=3 "$@"
}
apt_get update || skip "apt does not answer"
# What only the scripts of packages need is left out by unpacking without installing.
apt_get install --download-only "$@" || skip "apt does not give these packages for arm64"
for package in "$apt"/cache/archives/*.deb; do
  dpkg-deb -x "$package" "$folder"
done
rm -rf "$apt"
# Absolute links would lead out of the folder.
find "$folder" -type l -lname '/*' -print0 | while IFS= read -r -d '' link; do
  ln -sfn "$(realpath -m --relative-to="$(dirname "$link")" "$folder$(readlink "$link")")" "$link"
done
echo "$*" >"$folder/.packages"
