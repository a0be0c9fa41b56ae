#!/bin/bash
# qpack_sizes.sh QUERN QPACK_SIZES [--check]
# Prints the table of sizes in bench/RESULTS.md: the trained fixture in every type, and Gaussian weights. With --check
# it fails where QPACK is not what it promises (see qpack_sizes.cc).
set -eu
[ $# -ge 2 ] || { echo "usage: ${0##*/} QUERN QPACK_SIZES [--check]" >&2; exit 2; }
quern=$(realpath "$1") sizes=$(realpath "$2")
fixture=$(dirname "$(realpath "$0")")/../../tests/data/fixture/meta-2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
files=()
for type in $("$quern" types | awk '$0 == "" { exit } NR > 2 { print $1 }'); do
  "$quern" -q quantize "$fixture" -t "$type" -o "$work/fixture $type.gguf"
  files+=("$work/fixture $type.gguf")
done
"$sizes" ${3:+"$3"} "${files[@]}"
