#!/bin/bash
# memory.sh QUERN SHIM BIG_CHECKPOINT [quick|sweep]
# The peak of a pass stays within its bounds whatever the size of the model. BIG_CHECKPOINT is bench/make_checkpoint;
# its sparse checkpoints take no space. A sweep takes the widest shapes there are, 8 shards, and reads 23 GB twelve times.
set -u
[ $# -ge 3 ] || { echo "usage: ${0##*/} QUERN SHIM BIG_CHECKPOINT [quick|sweep]" >&2; exit 2; }
quern=$(realpath "$1") shim=$(realpath "$2") make_checkpoint=$(realpath "$3") mode=${4:-quick}
work=$(mktemp -d)
trap 'rm -rf "$work"; [ -z "${group:-}" ] || rmdir "$group"' EXIT
n_tried=0 n_failed=0
exec 3>&1

# A cgroup with a hard limit, where one may be made: a pass that needs more is killed there.
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  group=/sys/fs/cgroup/quern-test-$$ limit_file=memory.max
else
  group=/sys/fs/cgroup/memory/quern-test-$$ limit_file=memory.limit_in_bytes
fi
if ! { mkdir "$group" && echo 512M >"$group/$limit_file"; } 2>/dev/null; then
  rmdir "$group" 2>/dev/null
  group=
  echo "no limit by a cgroup: it is not permitted here" >&2
fi

# bounded LIMIT_MIB LABEL COMMAND...: runs the command and looks at its peak (VmHWM).
bounded() {
  local limit=$1 label=$2 peak code=0
  shift 2
  rm -f "$work/counts"
  (
    [ -z "$group" ] || echo $BASHPID >"$group/cgroup.procs"
    exec env LD_PRELOAD="$shim" QUERN_FAULT_COUNTS="$work/counts" "$@"
  ) || code=$?
  peak=$(awk '$1 == "peak_kib" { print int($2 / 1024) }' "$work/counts" 2>/dev/null)
  n_tried=$((n_tried + 1))
  printf '%-62s %4s MiB, limit %s\n' "$label" "${peak:--}" "$limit" >&3
  if [ $code -ne 0 ] || [ -z "$peak" ] || [ "$peak" -ge "$limit" ]; then
    echo "FAILED: $label: exit code $code, peak ${peak:-unknown} MiB, limit $limit MiB" >&2
    n_failed=$((n_failed + 1))
  fi
}

try_shape() {  # try_shape MODEL LAYERS
  local model=$1 layers=$2 in=$work/$1
  "$make_checkpoint" "$in" --model "$model" --layers "$layers" --sparse >/dev/null || exit 1
  local budget limit flags
  for budget in 512 128; do
    limit=$((budget == 512 ? 512 : 256)) flags="--memory ${budget}MiB"
    # shellcheck disable=SC2086 # the flags are words
    bounded $limit "$model convert $flags" "$quern" -q convert "$in" $flags -o /dev/null
    bounded $limit "$model quantize -t q4_0 $flags" "$quern" -q quantize "$in" -t q4_0 $flags -o /dev/null
    bounded $limit "$model quantize -t q4_0 $flags, in pipes" "$quern" -q quantize -t q4_0 $flags \
      < <("$quern" -q convert "$in") > >(cat >/dev/null)
  done
  bounded 512 "$model quantize -t q4_k --threads 64" "$quern" -q quantize "$in" -t q4_k --threads 64 -o /dev/null
  # Packing and unpacking, with more threads than the budget has room for.
  flags="--memory 128MiB --threads 64"
  # shellcheck disable=SC2086
  {
    bounded 256 "$model quantize -t q8_0 -f qpack $flags" "$quern" -q quantize "$in" -t q8_0 -f qpack $flags -o "$work/q8_0.qpack"
    bounded 256 "$model convert $flags, of a QPACK" "$quern" -q convert "$work/q8_0.qpack" $flags -o /dev/null
    bounded 256 "$model unpack $flags" "$quern" -q unpack "$work/q8_0.qpack" $flags -o "$work/q8_0.gguf"
    bounded 256 "$model check $flags, of a QPACK" "$quern" -q check "$work/q8_0.qpack" $flags
    for level in 1 3; do
      bounded 128 "$model pack --level $level --memory 64MiB --threads 64" \
        "$quern" -q pack --level $level --memory 64MiB --threads 64 "$work/q8_0.gguf" -o /dev/null
    done
  }
  rm -rf "$in" "$work"/q8_0.*
}

if [ "$mode" = sweep ]; then
  try_shape llama-3-70b 2
  try_shape llama-3.1-405b 1  # an embedding of 128,256 x 16,384
else
  try_shape 7b 1
fi

# A row that cannot fit: the figure that is needed, and it is the truth.
"$make_checkpoint" "$work/in" --model 7b --layers 1 --sparse >/dev/null || exit 1
code=0
"$quern" quantize "$work/in" -t q4_0 --memory 16KiB -o /dev/null 2>"$work/stderr" || code=$?
needed=$(sed -n 's/.*found a need of \([0-9]*\) bytes.*/\1/p' "$work/stderr")
n_tried=$((n_tried + 2))
[ $code -eq 7 ] && [ -n "$needed" ] || { echo "FAILED: a row that cannot fit: exit code $code" >&2; n_failed=$((n_failed + 1)); }
for memory in $((needed - 1)):7 "$needed":0; do
  code=0
  "$quern" -q quantize "$work/in" -t q4_0 --memory "${memory%:*}" -o /dev/null 2>"$work/stderr" || code=$?
  [ $code -eq "${memory#*:}" ] || { echo "FAILED: --memory ${memory%:*}: exit code $code" >&2; n_failed=$((n_failed + 1)); }
done
echo "$n_tried tried, $n_failed failed"
[ $n_failed -eq 0 ]
