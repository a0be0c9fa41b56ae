#!/bin/bash
# beside_llama.sh BUILD TOKENIZER TEXT [LAYERS [WINDOWS]]
# Perplexity over a model of Llama 2 7B's widths, quern beside npm's unmodified llama.cpp in the same run, two threads
# each: seconds of evaluation (loading is not counted for llama.cpp, reading weights is for quern) and the ratios.
#
#   BUILD      a build folder with quern, make_checkpoint and tests/interop/llama.cpp (tests/interop/fetch_llama.sh)
#   TOKENIZER  Llama 2's tokenizer.model
#   LAYERS     4 by default; WINDOWS of 512 tokens: 20. About 7 GB of disk for 4 layers, in $TMPDIR.
set -eu -o pipefail
build=$(realpath "$1") tokenizer=$(realpath "$2") text=$(realpath "$3")
layers=${4:-4} windows=${5:-20} threads=${THREADS:-2}
quern=$build/quern
driver=$build/tests/interop/llama.cpp/llama_driver
maker=$(find "$build/bench" -name make_checkpoint -type f | head -n 1)
[ -x "$driver" ] || { echo "no llama.cpp: run tests/interop/fetch_llama.sh $build/tests/interop/llama.cpp" >&2; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$maker" "$work/checkpoint" --model 7b --layers "$layers" --tokenizer "$tokenizer" >/dev/null
make_model() {
  case $1 in
    f16 | bf16) "$quern" -q convert "$work/checkpoint" -t "$1" -o "$work/$1.gguf" ;;
    *) "$quern" -q quantize "$work/checkpoint" -t "$1" --pure --effort fast -o "$work/$1.gguf" ;;
  esac
}
# What evaluation takes, in seconds, and the perplexity.
ours() {
  "$quern" -q perplexity "$work/$1.gguf" --text "$text" --chunks "$windows" --compute "$2" --threads "$threads" \
    --json | sed -n 's/^  "seconds": \([0-9.]*\).*/\1/p; s/^  "perplexity": \([0-9.]*\).*/\1/p' | tac | paste -sd' '
}
theirs() {
  QUERN_LLAMA_THREADS=$threads "$driver" perplexity "$work/$1.gguf" "$text" 512 "$windows" |
    sed -n 's/^seconds \([0-9.]*\)/\1/p; s/^perplexity \([0-9.]*\).*/\1/p' | tac | paste -sd' '
}

tokens=$((windows * 512))
printf '%-10s %-7s %10s %10s %12s\n' weights compute seconds tokens/s perplexity
declare -A took
row() {  # WHO TYPE COMPUTE "SECONDS PERPLEXITY"
  read -r seconds perplexity <<<"$4"
  took[$1-$2-$3]=$seconds
  printf '%-10s %-7s %10.2f %10.1f %12.3f  %s\n' "$2" "$3" "$seconds" "$(awk "BEGIN { print $tokens / $seconds }")" "$perplexity" "$1"
}
for type in f16 bf16 q8_0 q4_k_s; do
  make_model $type
  row quern $type f32 "$(ours $type f32)"
  if [ $type != bf16 ] && answer=$(ours $type bf16 2>/dev/null); then row quern $type bf16 "$answer"; fi
  row llama.cpp $type - "$(theirs $type)"
  rm "$work/$type.gguf"
done

ratio() {  # NAME OURS THEIRS WANTED
  [ -n "${took[quern-$2]:-}" ] || { printf '%-34s not on this machine\n' "$1"; return; }
  awk -v name="$1" -v ours="${took[quern-$2]}" -v theirs="${took[llama.cpp-$3]}" -v wanted="$4" \
    'BEGIN { printf "%-34s %5.2f  (aim %.1f)\n", name, theirs / ours, wanted }'
}
echo
ratio "f32 beside its f16" f16-f32 f16-- 1.3
ratio "bf16 beside its f16" f16-bf16 f16-- 5
ratio "bf16 beside its bf16" f16-bf16 bf16-- 5
ratio "bf16 beside its q8_0" q8_0-bf16 q8_0-- 1.5
ratio "bf16 beside its q4_k" q4_k_s-bf16 q4_k_s-- 1.5
