#!/bin/bash
# perplexity.sh QUERN LLAMA CHECKPOINT TYPE TEXT CONTEXT PERCENT
# quern's GGUF of CHECKPOINT in TYPE loads in llama.cpp, and both measure the same perplexity on TEXT: the same tokens
# and windows, values that differ by less than PERCENT.
. "$(dirname "$0")/common.sh"
checkpoint=$data/$1 type=$2 text=$3 context=$4 percent=$5
[ "${text#assets/}" = "$text" ] && text=$data/$text || text=$assets/${text#assets/}
[ -e "$text" ] || skip "$text is missing"
head -c 48k "$text" >"$work/text"  # llama.cpp takes seconds for as much
text=$work/text

"$quern" quantize "$checkpoint" -t "$type" -o "$work/model.gguf"
"$driver" load "$work/model.gguf"
"$driver" perplexity "$work/model.gguf" "$text" "$context" >"$work/theirs"
"$quern" perplexity "$work/model.gguf" --text "$text" --context "$context" --json="$work/ours.json"

number() { sed -n "s/^  \"$1\": *\([-+.0-9e]*\).*/\1/p" "$work/ours.json"; }
read -r _ tokens _ windows _ scored < <(grep '^tokens ' "$work/theirs")
read -r _ value _ error < <(grep '^perplexity ' "$work/theirs")
ours="$(number text_tokens) $(number windows) $(number tokens)"
[ "$ours" = "$tokens $windows $scored" ] ||
  fail "tokens, windows and predictions: quern $ours, llama.cpp $tokens $windows $scored"
awk -v a="$(number perplexity)" -v ae="$(number stderr)" -v b="$value" -v be="$error" -v percent="$percent" 'BEGIN {
  d = 100 * (a / b - 1); e = 100 * (ae / be - 1)
  printf "quern %.6f ± %.6f, llama.cpp %.6f ± %.6f: %+.4f %%, error %+.3f %% (limit %s %%)\n", a, ae, b, be, d, e, percent
  exit !(a > 1 && d <= percent && -d <= percent && e <= 1 && -e <= 1)
}' || fail "the perplexities differ"
