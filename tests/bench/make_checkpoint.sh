#!/bin/bash
# make_checkpoint.sh QUERN MAKE_CHECKPOINT: the bench's checkpoints are what they say: every shape is read, in its
# release's number of shards and in another, and the same arguments give the same bytes.
set -eu
quern=$(realpath "$1") make=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
models=$("$make" --help | sed -n 's/.*{\(.*7b.*\)}.*/\1/p' | tr ',' ' ')
n=0
for arguments in $models 7b:--shards:2 llama-3-8b:--shards:4; do
  # shellcheck disable=SC2086 # words
  "$make" ck --layers 1 --sparse --model ${arguments//:/ }
  "$quern" -q convert ck -n >/dev/null
  rm -r ck
  n=$((n + 1))
done
echo "$n checkpoints"
[ $n -ge 15 ]
for i in a b; do "$make" $i --model llama-3.2-1b --layers 1 --seed 7; done
cmp a/consolidated.00.pth b/consolidated.00.pth
cmp a/params.json b/params.json
"$make" c --model llama-3.2-1b --layers 1 --seed 8
! cmp -s a/consolidated.00.pth c/consolidated.00.pth
"$quern" inspect a | grep -q tied
! "$make" d --model 7b --layers 1 --shards 3 2>/dev/null
