#!/bin/bash
# text_tokens.sh QUERN LLAMA QUERN_TOKENS MAKE_VOCAB_CHECKPOINT TOKENIZER VOCAB_SIZE TEXT
# A checkpoint around a real tokenizer is converted; quern and llama.cpp, both reading the GGUF that quern wrote, give
# the same ids to the whole of TEXT.
. "$(dirname "$0")/common.sh"
quern_tokens=$1 make_vocab_checkpoint=$2 tokenizer=$assets/$3 vocab_size=$4 text=$assets/$5
for file in "$tokenizer" "$text"; do
  [ -e "$file" ] || skip "$file is missing"
done

"$make_vocab_checkpoint" "$tokenizer" "$vocab_size" "$work/checkpoint"
"$quern" convert -q "$work/checkpoint" -o "$work/model.gguf"
"$driver" tokenize "$work/model.gguf" special <"$text" | tr ' ' '\n' >"$work/theirs"
"$quern_tokens" "$work/model.gguf" special <"$text" | tr ' ' '\n' >"$work/ours"
n=$(wc -l <"$work/ours")
[ "$n" -gt 100000 ] || fail "only $n ids"
cmp "$work/theirs" "$work/ours" || fail "the ids differ: $(diff "$work/theirs" "$work/ours" | head -n 20)"
echo "$n ids"
