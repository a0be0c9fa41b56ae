#!/bin/bash
# presets_fixture.sh QUERN LLAMA
# llama.cpp quantizes the fixture with every preset, with and without an importance matrix; quern's file has the same
# tensors with the same types.
. "$(dirname "$0")/common.sh"
"$quern" quantize -q "$data/fixture/meta-2" -t f16 -o "$work/f16.gguf"
types_of() {
  "$quern" inspect "$1" --json | awk -F'"' '$2 == "name" { name = $4 } $2 == "type" { print name, $4 }' | sort
}
# Ones for every column of every layer's matrices.
le() { printf "\\x$(printf %02x $(($1 & 255)))\\x$(printf %02x $(($1 >> 8)))\\0\\0"; }
matrices=$("$quern" inspect "$work/f16.gguf" --json |
  awk -F'"' '$2 == "name" { name = $4 } $2 == "shape" { getline; getline; sub(/ */, ""); if (/^[0-9]/ && name ~ /^blk/) print name, $0 }')
{
  le "$(wc -l <<<"$matrices")"
  while read -r name cols; do
    le ${#name}; printf %s "$name"; le 1; le "$cols"
    for ((i = 0; i < cols; ++i)); do printf '\0\0\200\077'; done
  done <<<"$matrices"
} >"$work/imatrix.dat"

n=0
for preset in $("$quern" types --json | sed -n 's/.*"name": "\(.*\)".*/\1/p' | grep -v -x -e source -e mxfp4); do
  for imatrix in "" imatrix; do
    # llama.cpp refuses this one.
    [ "$preset$imatrix" != q2_k_s ] || continue
    "$driver" quantize-model "$work/f16.gguf" "$work/theirs.gguf" "$preset" 1 ${imatrix:+imatrix} 2>"$work/log" >/dev/null
    "$quern" quantize -q --force "$work/f16.gguf" -t "$preset" ${imatrix:+--imatrix "$work/imatrix.dat"} -o "$work/ours.gguf"
    types_of "$work/theirs.gguf" >"$work/theirs"
    types_of "$work/ours.gguf" >"$work/ours"
    [ "$(wc -l <"$work/ours")" -eq 39 ] || fail "$preset: $(wc -l <"$work/ours") tensors"
    diff "$work/theirs" "$work/ours" || fail "$preset ${imatrix:-without imatrix}: < llama.cpp, > quern"
    n=$((n + 1))
  done
done
[ $n -ge 39 ] || fail "only $n files"
echo "$n files"
