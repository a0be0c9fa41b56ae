#!/bin/bash
# Tests run_case.sh with `printf`-like cases: that it accepts what matches and refuses what does not.
set -eu
runner=$(dirname "$(realpath "$0")")/run_case.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/data"
failures=0

# expect VERDICT SCRIPT [SUFFIX CONTENT]...: writes the case and its expectations, runs it.
expect() {
  local verdict=$1 script=$2
  shift 2
  rm -f "$work"/case.*
  printf '%s\n' "$script" >"$work/case.sh"
  local description="$script"
  while [ $# -gt 0 ]; do
    printf '%b' "$2" >"$work/case.$1"
    description+=" | $1: $2"
    shift 2
  done
  local code=0
  "$runner" /bin/true "$work/data" "$work/case.sh" >"$work/log" 2>&1 || code=$?
  if [ "$code" != "$verdict" ]; then
    echo "run_case.sh exited $code, expected $verdict, for: $description"
    cat "$work/log"
    failures=$((failures + 1))
  fi
}

expect 0 'true'
expect 0 'quern; $QUERN; test -d data; test -d "$DATA"; test -z "$(ls -A "$HOME")"'
expect 1 'echo out'
expect 1 'echo err >&2'
expect 1 'exit 3'
expect 0 'exit 3' exit '3\n'
expect 1 'true' exit '3\n'
expect 77 'echo why >&2; exit 77'
expect 1 'false; true'
expect 0 'printf "a\nb"' stdout.exact 'a\nb'
expect 1 'printf "a\nb\n"' stdout.exact 'a\nb'
expect 1 'true' stderr.exact 'a\n'
expect 0 'echo "x: bad [a.b]"' stdout.glob '*: bad [a.b]\n'
expect 1 'echo "x: bad b"' stdout.glob '*: bad [a.b]\n'
expect 0 'echo "back\\slash"' stdout.glob 'back\\slash\n'
expect 1 'seq 3' stdout.glob '1\n2\n'
expect 1 'seq 2' stdout.glob '1\n2\n3\n'
expect 0 'seq 9' stdout.glob '1\n...\n9\n'
expect 0 'seq 9' stdout.glob '...\n'
expect 0 'true' stdout.glob '...\n'
expect 0 'seq 12' stdout.glob '...\n1?\n12\n'
expect 1 'seq 9' stdout.glob '...\n1?\n...\n'
expect 1 'seq 9' stdout.glob '1\n...\n8\n'
expect 1 'cat' stdout.exact 'x\n'

if [ $failures -ne 0 ]; then
  echo "$failures failures"
  exit 1
fi
