#!/bin/bash
# install_test.sh CMAKE BUILD_FOLDER: `cmake --install` honours DESTDIR and the prefix, puts down what is meant to be
# installed and nothing else, and what is installed runs from there.
set -eu
cmake=$1 build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

DESTDIR=$work "$cmake" --install "$build" --prefix /opt/quern >"$work/log" || { cat "$work/log"; exit 1; }
rm "$work/log"
found=$(cd "$work" && find . -type f)
[ "$found" = ./opt/quern/bin/quern ] || { echo "installed: $found"; exit 1; }
"$work/opt/quern/bin/quern" version
