#!/bin/bash
# presets.sh QUERN LLAMA MAKE_SPARSE_GGUF MODEL
# Every preset gives every tensor of a full-size model the type that llama.cpp gives it, with and without an importance
# matrix; some also with --pure and --keep-output. (mxfp4 on dense models is quern's own.)
. "$(dirname "$0")/common.sh"
maker=$1 model=$2
"$maker" "$work/model.gguf" "$model" "$work/imatrix.dat"

presets=$("$quern" types --json | sed -n 's/.*"name": "\(.*\)".*/\1/p' | grep -v -x -e source -e mxfp4)
n=0
for preset in $presets; do
  for imatrix in "" imatrix; do
    "$driver" quantize-model "$work/model.gguf" - "$preset" 1 ${imatrix:+imatrix} 2>"$work/log" | sort >"$work/theirs"
    "$quern" quantize -q "$work/model.gguf" -t "$preset" ${imatrix:+--imatrix "$work/imatrix.dat"} -n --explain --json |
      awk -F'"' '$2 == "name" { name = $4 } $2 == "to" { print name, $4 }' | sort >"$work/ours"
    [ "$(wc -l <"$work/ours")" -gt 50 ] || fail "$preset: quern lists $(wc -l <"$work/ours") tensors"
    diff "$work/theirs" "$work/ours" || fail "$preset ${imatrix:-without imatrix}: < llama.cpp, > quern"
    n=$((n + 1))
  done
done
for preset in q4_0 q4_k_m q3_k_l q6_k iq4_xs; do
  for flag in pure keep-output; do
    "$driver" quantize-model "$work/model.gguf" - "$preset+$flag" 1 2>"$work/log" | sort >"$work/theirs"
    "$quern" quantize -q "$work/model.gguf" -t "$preset" --$flag -n --explain --json |
      awk -F'"' '$2 == "name" { name = $4 } $2 == "to" { print name, $4 }' | sort >"$work/ours"
    diff "$work/theirs" "$work/ours" || fail "$preset --$flag: < llama.cpp, > quern"
    n=$((n + 1))
  done
done
[ $n -ge 50 ] || fail "only $n plans"
echo "$n plans of $(wc -l <"$work/ours") tensors"
