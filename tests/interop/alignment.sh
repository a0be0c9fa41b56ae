#!/bin/bash
# alignment.sh QUERN LLAMA REALIGN_GGUF
# Files laid out for another alignment than 32 keep it when they are quantized, from a file and from a pipe; llama.cpp
# loads them and computes what it does with the plain file.
. "$(dirname "$0")/common.sh"
realign=$1
head -c 20000 "$data/fixture/austen.txt" >"$work/text"
text=$work/text
"$quern" -q convert "$data/fixture/meta-2" -o "$work/plain.gguf"
"$quern" -q quantize "$work/plain.gguf" -t q4_0 -o "$work/plain_q.gguf"
# Everything that llama.cpp prints but the time.
perplexity_of() { "$driver" perplexity "$1" "$text" 512 | grep -v '^seconds'; }
perplexity_of "$work/plain_q.gguf" >"$work/expected"
grep -q '^perplexity' "$work/expected" || fail "no perplexity"

# alignment_of FILE: the value of general.alignment, of type UINT32 (4), behind its key.
alignment_of() {
  grep -aobm1 general.alignment "$1" | head -1 | cut -d: -f1 | {
    read -r at || { echo none; return; }
    od -An -tu4 -j $((at + 17)) -N 8 "$1" | { read -r type value; echo "$type $value"; }
  }
}
[ "$(alignment_of "$work/plain_q.gguf")" = none ] || fail "the default is written"

for alignment in 64 4096; do
  "$realign" "$work/plain.gguf" $alignment "$work/a.gguf"
  "$driver" load "$work/a.gguf"
  "$quern" -q quantize "$work/a.gguf" -t q4_0 -o "$work/q.gguf" --force
  "$quern" -q quantize -t q4_0 <"$work/a.gguf" | cmp - "$work/q.gguf" || fail "a pipe gives other bytes"
  [ "$(alignment_of "$work/q.gguf")" = "4 $alignment" ] || fail "alignment $alignment: $(alignment_of "$work/q.gguf")"
  "$driver" load "$work/q.gguf"
  perplexity_of "$work/q.gguf" | diff "$work/expected" - || fail "another perplexity"
  "$quern" check "$work/q.gguf" >/dev/null || fail "quern check finds damage"
  echo "alignment $alignment: kept, loaded, the same perplexity"
done
