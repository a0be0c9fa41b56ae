#!/bin/bash
# hf_features.sh QUERN LLAMA MAKE_HF_FOLDER HEAD_DIM FACTOR
# A folder whose config.json gives heads a size of their own, or divides positions, becomes a GGUF on which quern and
# llama.cpp measure the same perplexity.
. "$(dirname "$0")/common.sh"
make_hf_folder=$1 head_dim=$2 factor=$3
head -c 8000 "$data/fixture/kjv.txt" >"$work/text"
"$make_hf_folder" "$data/stories260K/meta-f32" "$data/stories260K/hf/tokenizer.model" "$work/hf" "$head_dim" "$factor"
"$quern" -q convert "$work/hf" -o "$work/model.gguf"
"$quern" inspect "$work/model.gguf" >"$work/inspect"
grep -q "heads .* $head_dim wide" "$work/inspect" || fail "heads are not $head_dim wide"
[ "$factor" = 1 ] || grep -q "rope scaling  *linear, $factor" "$work/inspect" || fail "no scaling by $factor"

"$driver" load "$work/model.gguf"
"$driver" perplexity "$work/model.gguf" "$work/text" 256 >"$work/theirs"
"$quern" perplexity "$work/model.gguf" --text "$work/text" --context 256 --json="$work/ours.json"
number() { sed -n "s/^  \"$1\": *\([-+.0-9e]*\).*/\1/p" "$work/ours.json"; }
read -r _ value _ < <(grep '^perplexity ' "$work/theirs")
awk -v a="$(number perplexity)" -v b="$value" 'BEGIN {
  d = 100 * (a / b - 1)
  printf "quern %.4f, llama.cpp %.4f: %+.4f %%\n", a, b, d
  exit !(a > 1 && d <= 0.1 && -d <= 0.1)
}' || fail "the perplexities differ"
