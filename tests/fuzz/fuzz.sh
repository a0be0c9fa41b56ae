#!/bin/bash
# fuzz.sh PROGRAM CORPUS [libFuzzer options]
# Runs one libFuzzer harness from its corpus. New inputs go to a scratch folder that is removed, so the corpus
# stays as it is committed; an input that crashes, hangs or leaks is kept in the working folder as
# NAME-crash-*, NAME-timeout-*, NAME-oom-*, NAME-leak-*, and the exit code is not zero.
set -eu
program=$1 corpus=$2
shift 2
name=$(basename "$program" _fuzz)

if [ -z "$(find "$corpus" -type f -print -quit 2>/dev/null)" ]; then
  echo "fuzz.sh: no corpus in $corpus: add a few small files" >&2
  exit 1
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}
"$program" -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 -verbosity=0 \
  -artifact_prefix="$PWD/$name-" "$@" "$scratch" "$corpus"
