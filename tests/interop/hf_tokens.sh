#!/bin/bash
# hf_tokens.sh QUERN LLAMA QUERN_TOKENS MAKE_VOCAB_CHECKPOINT MAKE_HF_FOLDER META_TOKENIZER HF_TOKENIZER VOCAB_SIZE VECTORS
# As tokens.sh, but with a folder in Hugging Face's layout around HF_TOKENIZER (a file of the assets, or "json": a
# tokenizer.json made of META_TOKENIZER).
. "$(dirname "$0")/common.sh"
quern_tokens=$1 make_vocab_checkpoint=$2 make_hf_folder=$3 meta=$assets/$4 hf=$5 vocab_size=$6
vectors=$assets/tokenizer-vectors/$7
[ "$hf" = json ] || hf=$assets/$hf
for file in "$meta" "$vectors.inp" "$vectors.out"; do
  [ -e "$file" ] || skip "$file is missing"
done

"$make_vocab_checkpoint" "$meta" "$vocab_size" "$work/meta"
"$make_hf_folder" "$work/meta" "$hf" "$work/hf"
"$quern" convert "$work/hf" -o "$work/model.gguf"
"$driver" tokenize "$work/model.gguf" <"$vectors.inp" >"$work/theirs"
"$quern_tokens" "$work/model.gguf" <"$vectors.inp" >"$work/ours"
diff "$vectors.out" "$work/theirs" || fail "llama.cpp gives other ids with quern's GGUF"
diff "$vectors.out" "$work/ours" || fail "quern gives other ids"
echo "$(wc -l <"$vectors.out") texts"
