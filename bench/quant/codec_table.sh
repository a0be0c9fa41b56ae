#!/bin/bash
# codec_table.sh [BUILD [OPTION...]]: remakes the table of codec speeds in bench/RESULTS.md, beside npm's ggml. Half an hour
# on a quiet machine. Options go to codec_bench (--benchmark_filter=REGEX); QUERN_BENCH_ROWS makes it shorter.
set -eu -o pipefail
cd "$(dirname "$0")/../.."
build=${1:-build/release}
[ $# -eq 0 ] || shift
llama=$build/tests/interop/llama.cpp
tests/interop/fetch_llama.sh "$llama"
cmake --build "$build" --target codec_bench
table=$(mktemp)
trap 'rm -f "$table"' EXIT
QUERN_GGML_BASE=$llama/lib/libggml-base.so "$build/bench/quant/codec_bench" --table "$@" | tee "$table"
grep -q '^| encode' "$table"
awk -v table="$table" '
  /^<!-- end of codec_table -->/ { inside = 0 }
  !inside { print }
  /^<!-- codec_table -->/ { inside = found = 1; while ((getline line < table) > 0) print line }
  END { exit !found }' bench/RESULTS.md >"$table.md"
cat "$table.md" >bench/RESULTS.md
rm -f "$table.md"
