#!/bin/bash
# generations.sh QUERN LLAMA MAKER GENERATION
# A checkpoint of the generation gives the same GGUF whether it has 1, 2, 4, 8 or 16 shards; it loads in llama.cpp, and
# both measure the same perplexity on it, of the same tokens.
. "$(dirname "$0")/common.sh"
maker=$1 generation=$2
head -c 8000 "$data/fixture/kjv.txt" >"$work/text"

for n in 1 2 4 8 16; do
  "$maker" "$work/meta-$n" "$generation" "$n" f32
  "$quern" convert -q "$work/meta-$n" -o "$work/$n.gguf"
  cmp "$work/1.gguf" "$work/$n.gguf" || fail "$n shards give another file than one"
done

"$driver" load "$work/16.gguf"
"$driver" perplexity "$work/16.gguf" "$work/text" 256 >"$work/theirs"
"$quern" perplexity "$work/16.gguf" --text "$work/text" --context 256 --json="$work/ours.json"
number() { sed -n "s/^  \"$1\": *\([-+.0-9e]*\).*/\1/p" "$work/ours.json"; }
read -r _ tokens _ windows _ < <(grep '^tokens ' "$work/theirs")
read -r _ value _ < <(grep '^perplexity ' "$work/theirs")
[ "$(number text_tokens) $(number windows)" = "$tokens $windows" ] ||
  fail "tokens and windows: quern $(number text_tokens) $(number windows), llama.cpp $tokens $windows"
awk -v a="$(number perplexity)" -v b="$value" 'BEGIN {
  d = 100 * (a / b - 1)
  printf "quern %.4f, llama.cpp %.4f: %+.4f %%\n", a, b, d
  exit !(a > 1 && d <= 0.1 && -d <= 0.1)
}' || fail "the perplexities differ"
