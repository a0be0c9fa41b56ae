#!/bin/bash
# beside_llama.sh BUILD TOKENIZER TEXT [LAYERS [WINDOWS]]
# Perplexity over a model of Llama 2 7B's widths, quern beside npm's unmodified llama.cpp in the same run, two threads
# each: seconds of evaluation (loading is not counted for llama.cpp, reading weights is for quern) and the ratios. The
# programs take turns, RUNS times (3) in alternating order; the fastest run of each counts. Fails where the perplexity with
# --compute bf16 is more than 0.1 % from that with f32.
#
#   BUILD      a build folder with quern, make_checkpoint and tests/interop/llama.cpp (tests/interop/fetch_llama.sh)
#   TOKENIZER  Llama 2's tokenizer.model
#   LAYERS     4 by default; WINDOWS of 512 tokens: 20. About 7 GB of disk for 4 layers, in $TMPDIR.
set -eu -o pipefail
build=$(realpath "$1") tokenizer=$(realpath "$2") text=$(realpath "$3")
layers=${4:-4} windows=${5:-20} threads=${THREADS:-2} runs=${RUNS:-3}
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

# bf16 products are no faster than f32's on a CPU without instructions for them; their perplexity is the same everywhere.
has_bf16=$(grep -qwE 'avx512_bf16|amx_bf16' /proc/cpuinfo && echo yes || echo no)

# The fastest run of each, "SECONDS PERPLEXITY", by "WHO TYPE COMPUTE".
declare -A best
measure() {  # WHO TYPE COMPUTE
  local answer key="$*"
  if [ "$1" = quern ]; then answer=$(ours "$2" "$3"); else answer=$(theirs "$2"); fi
  [[ $answer == *' '* ]] || { echo "no figures of $key" >&2; return 1; }
  if [ -z "${best[$key]:-}" ] || awk "BEGIN { exit !(${answer% *} < ${best[$key]% *}) }"; then best[$key]=$answer; fi
}
tokens=$((windows * 512))
row() {  # WHO TYPE COMPUTE
  read -r seconds perplexity <<<"${best[$*]}"
  printf '%-10s %-7s %10.2f %10.1f %12.3f  %s\n' "$2" "$3" "$seconds" "$(awk "BEGIN { print $tokens / $seconds }")" "$perplexity" "$1"
}
printf '%-10s %-7s %10s %10s %12s\n' weights compute seconds tokens/s perplexity
for type in f16 bf16 q8_0 q4_k_s; do
  make_model $type
  turns=("quern $type f32" "quern $type bf16" "llama.cpp $type -")
  for ((run = 0; run < runs; ++run)); do
    order=(0 1 2)
    ((run % 2 == 0)) || order=(2 1 0)
    # shellcheck disable=SC2086  # Three words.
    for turn in "${order[@]}"; do measure ${turns[turn]}; done
  done
  # shellcheck disable=SC2086
  for turn in "${turns[@]}"; do row $turn; done
  rm "$work/$type.gguf"
done

ratio() {  # NAME OURS THEIRS WANTED
  if [[ $2 == *bf16 && $has_bf16 = no ]]; then
    printf '%-34s not on this machine: its CPU has no bf16 products\n' "$1"
    return
  fi
  awk -v name="$1" -v ours="${best[quern $2]% *}" -v theirs="${best[llama.cpp $3]% *}" -v wanted="$4" \
    'BEGIN { printf "%-34s %5.2f  (aim %.1f%s)\n", name, theirs / ours, wanted, theirs / ours < wanted ? ", missed" : "" }'
}
echo
ratio "f32 beside its f16" "f16 f32" "f16 -" 1.3
ratio "bf16 beside its f16" "f16 bf16" "f16 -" 5
ratio "bf16 beside its bf16" "bf16 bf16" "bf16 -" 5
ratio "bf16 beside its q8_0" "q8_0 bf16" "q8_0 -" 1.5
ratio "bf16 beside its q4_k" "q4_k_s bf16" "q4_k_s -" 1.5
failed=0
for type in f16 bf16 q8_0 q4_k_s; do
  awk -v type=$type -v f32="${best[quern $type f32]#* }" -v bf16="${best[quern $type bf16]#* }" \
    'BEGIN { off = 100 * (bf16 / f32 - 1); bad = off > 0.1 || off < -0.1
             printf "perplexity of %-7s bf16 beside f32 %+.4f %%  (at most 0.1 %%%s)\n", type, off, bad ? ", missed" : ""; exit bad }' ||
    failed=1
done
exit $failed
