#!/bin/bash
# tokens.sh QUERN LLAMA QUERN_TOKENS MAKE_VOCAB_CHECKPOINT TOKENIZER VOCAB_SIZE VECTORS
# A checkpoint around a real tokenizer is converted; the texts of the vectors get the listed ids from llama.cpp and from
# quern, both reading the GGUF that quern wrote.
. "$(dirname "$0")/common.sh"
quern_tokens=$1 make_vocab_checkpoint=$2 tokenizer=$assets/$3 vocab_size=$4 vectors=$assets/tokenizer-vectors/$5
for file in "$tokenizer" "$vectors.inp" "$vectors.out"; do
  [ -e "$file" ] || skip "$file is missing"
done

"$make_vocab_checkpoint" "$tokenizer" "$vocab_size" "$work/checkpoint"
"$quern" convert "$work/checkpoint" -o "$work/model.gguf"
"$driver" tokenize "$work/model.gguf" <"$vectors.inp" >"$work/theirs"
"$quern_tokens" "$work/model.gguf" <"$vectors.inp" >"$work/ours"
diff "$vectors.out" "$work/theirs" || fail "llama.cpp gives other ids with quern's GGUF"
diff "$vectors.out" "$work/ours" || fail "quern gives other ids"
echo "$(wc -l <"$vectors.out") texts"
