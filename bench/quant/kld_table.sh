#!/bin/bash
# kld_table.sh [BUILD]: remakes the table of divergences in bench/RESULTS.md, beside npm's ggml. Minutes on two cores.
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build/release}
llama=$build/tests/interop/llama.cpp
tests/interop/fetch_llama.sh "$llama"
cmake --build "$build" --target kld_table
QUERN_GGML_BASE=$llama/lib/libggml-base.so "$build/bench/quant/kld_table" --update bench/RESULTS.md
