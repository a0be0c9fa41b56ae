#!/bin/bash
# compare.sh BUILD CHECKPOINT [-n PAIRS] [-o FOLDER] [-l LLAMA] TYPE...
# One pass from Meta's files to a quantized GGUF, beside what the disk and the peer need for it; prints the rows of
# bench/RESULTS.md. TYPE may have flags behind it: "q4_0 --effort fast". All of it is in the page cache before, and what
# is written is on the disk at the end, on both sides.
#   storage  cat IN >/dev/null, and dd bs=4M conv=fsync of the output's size
#   peer     llama.cpp's llama_model_quantize over a 16-bit GGUF of the model, with -l: the folder of
#            tests/interop/fetch_llama.sh. Its conversion, a Python script, is not at hand: in its place stands the time to
#            read the checkpoint and write the 16-bit file, which no script can beat.
# bench/make_checkpoint writes checkpoints of real shapes.
set -eu -o pipefail
usage() { echo "usage: ${0##*/} BUILD CHECKPOINT [-n PAIRS] [-o FOLDER] [-l LLAMA] TYPE..." >&2; exit 2; }
[ $# -ge 3 ] || usage
quern=$(realpath "$1/quern") checkpoint=$(realpath "$2")
shift 2
n_pairs=3 folder=. llama=
while getopts n:o:l: option; do
  case $option in
    n) n_pairs=$OPTARG ;;
    o) folder=$OPTARG ;;
    l) llama=$(realpath "$OPTARG") ;;
    *) usage ;;
  esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || usage
threads=$(nproc)
work=$(mktemp -d "$folder/compare.XXXXXX")
trap 'rm -rf "$work"' EXIT
out=$work/out.gguf

# timed COMMAND...: sets wall, cpu (seconds).
timed() {
  local TIMEFORMAT='%R %U %S' user system
  sync
  { time "$@" >"$work/log" 2>&1; } 2>"$work/time" || { cat "$work/log" >&2; exit 1; }
  read -r wall user system <"$work/time"
  cpu=$(calc "$user + $system" %.2f)
}
calc() { awk "BEGIN { printf \"${2:-%.2f}\", $1 }"; }
less() { awk "BEGIN { exit !($1 < $2) }"; }

read_all() { cat "$checkpoint"/*.pth >/dev/null; }
write_zeros() { dd if=/dev/zero of="$work/zeros" bs=4M count="$1" iflag=count_bytes conv=fsync; }

in_bytes=$(cat "$checkpoint"/*.pth | wc -c)
echo "machine: $(nproc) x $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1), $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)"
echo "input: $checkpoint, $(calc "$in_bytes / 1e9") GB; best of $n_pairs pairs; seconds of wall time"
echo
echo "| type | quern s | cpu/wall | GB/s of input | cat s | dd s | quern / (cat + dd) |"
echo "|---|---|---|---|---|---|---|"
for type in "$@"; do
  best=1e9 best_cpu=0 best_cat=1e9 best_dd=1e9
  for ((pair = 0; pair < n_pairs; ++pair)); do
    # shellcheck disable=SC2086 # the flags behind the type
    timed "$quern" -q quantize "$checkpoint" -t $type --threads "$threads" --force -o "$out"
    if less "$wall" "$best"; then best=$wall best_cpu=$cpu; fi
    out_bytes=$(stat -c %s "$out")
    rm "$out"
    timed read_all
    if less "$wall" "$best_cat"; then best_cat=$wall; fi
    timed write_zeros "$out_bytes"
    if less "$wall" "$best_dd"; then best_dd=$wall; fi
    rm "$work/zeros"
  done
  echo "| $type | $best | $(calc "$best_cpu / $best") | $(calc "$in_bytes / 1e9 / $best") | $best_cat | $best_dd |" \
    "$(calc "$best / ($best_cat + $best_dd)") |"
done

[ -n "$llama" ] || exit 0
echo
echo "| type | quern s | peer: read and write 16 bits s | peer: quantize s | peer cpu/wall | peer / quern |"
echo "|---|---|---|---|---|---|"
"$quern" -q convert "$checkpoint" -o "$work/source.gguf"
source_bytes=$(stat -c %s "$work/source.gguf")
for type in "$@"; do
  best=1e9 best_16=1e9 best_peer=1e9 best_cpu=0
  for ((pair = 0; pair < n_pairs; ++pair)); do
    # shellcheck disable=SC2086
    timed "$quern" -q quantize "$checkpoint" -t $type --threads "$threads" --force -o "$out"
    if less "$wall" "$best"; then best=$wall; fi
    rm "$out"
    timed read_all
    wall_16=$wall
    timed write_zeros "$source_bytes"
    wall_16=$(calc "$wall_16 + $wall")
    if less "$wall_16" "$best_16"; then best_16=$wall_16; fi
    rm "$work/zeros"
    quantize_and_sync() { "$llama/llama_driver" quantize-model "$work/source.gguf" "$out" "${type%% *}" "$threads" && sync "$out"; }
    timed quantize_and_sync
    if less "$wall" "$best_peer"; then best_peer=$wall best_cpu=$cpu; fi
    rm "$out"
  done
  echo "| $type | $best | $best_16 | $best_peer | $(calc "$best_cpu / $best_peer") | $(calc "($best_16 + $best_peer) / $best") |"
done
