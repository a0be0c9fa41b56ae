#!/bin/bash
# calls.sh QUERN SHIM MAKE_CHECKPOINT [quick|sweep]
# The n-th system call fails, once and from then on; so does the n-th allocation.
. "$(dirname "$0")/common.sh"
EPERM=1 EINTR=4 EIO=5 EAGAIN=11 EACCES=13 EMFILE=24 ENOSPC=28

# judge LABEL CODE REFERENCE [OLD]: after a fault, either all is well or nothing happened.
judge() {
  local label=$1 code=$2 reference=$3
  shift 3
  case $code in
    0) check "$label: exit code 0, but not the whole output" whole "$reference" ;;
    3 | 4 | 5 | 7)
      # A file that is in its place stays there where the report after it could not be shown.
      if says "error: standard output:"; then
        check "$label: standard output failed, and the file is not whole" whole "$reference"
        return
      fi
      check "$label: exit code $code, but the folder has $(entries | tr '\n' ' ')" untouched "$@"
      check "$label: exit code $code, and the message names no path" says_a_path ;;
    *) check "$label: exit code $code" false ;;
  esac
}

# try CALL ACTION REFERENCE OLD COMMAND...: at each step, once and from then on.
try() {
  local call=$1 action=$2 reference=$3 old=$4 n ever count
  shift 4
  count=$(awk -v call="$call" '$1 == call { print $2 }' "$work/counts")
  for n in $(steps "${count:-0}"); do
    for ever in "" +; do
      # A call that is always interrupted would be repeated for ever.
      [ "$action$ever" = "$EINTR+" ] && continue
      fresh ${old:+"$old"}
      with_fault "$call:$n$ever:$action" "$@"
      local code=$?
      judge "$call number $n$ever, errno $action: ${*:2:2}" $code "$reference" ${old:+"$old"}
      if [ "$action" = $EINTR ]; then check "$call number $n interrupted: exit code $code" [ $code -eq 0 ]; fi
    done
  done
}

# all_calls REFERENCE OLD COMMAND...
all_calls() {
  local reference=$1 old=$2
  shift 2
  fresh ${old:+"$old"}
  check "counting: ${*:2:2}" counts "$@" >/dev/null
  try open $EMFILE "$reference" "$old" "$@"
  try open $EACCES "$reference" "$old" "$@"
  try read $EIO "$reference" "$old" "$@"
  try read $EINTR "$reference" "$old" "$@"
  try write $ENOSPC "$reference" "$old" "$@"
  try write $EIO "$reference" "$old" "$@"
  try write $EINTR "$reference" "$old" "$@"
  for call in close fsync link rename stat statvfs readlink opendir flock seek; do
    try $call $EIO "$reference" "$old" "$@"
  done
  try thread $EAGAIN "$reference" "$old" "$@"
}

all_calls "$work/convert.gguf" "" "$quern" convert "$work/in" -o "$target" --threads 1
all_calls "$work/quantize.gguf" "an old model" "$quern" quantize "$work/convert.gguf" -t q4_0 --force -o "$target" --threads 1
export QUERN_FAULT_NO_TMPFILE=1
all_calls "$work/convert.gguf" "" "$quern" convert "$work/in" -o "$target" --threads 1
unset QUERN_FAULT_NO_TMPFILE
"$quern" -q "${save_logits[@]}" "$work/base.logits" >/dev/null || exit 1
all_calls "$work/base.logits" "" "$quern" "${save_logits[@]}" "$target" >/dev/null
"$quern" -q "${collect[@]}" "$work/importance.gguf" || exit 1
all_calls "$work/importance.gguf" "an old file" "$quern" "${collect[@]}" "$target" --force
if [ "$mode" = sweep ]; then
  "$quern" -q pack "$work/convert.gguf" -o "$work/packed" || exit 1
  all_calls "$work/packed" "" "$quern" pack "$work/convert.gguf" -o "$target" --threads 1
  all_calls "$work/convert.gguf" "" "$quern" unpack "$work/packed" -o "$target" --threads 1
fi

# Threads that cannot be started are done without.
for command in "convert $work/in" "quantize $work/convert.gguf -t q4_0"; do
  for n in 0 1 2 3 7; do
    fresh
    # shellcheck disable=SC2086 # the words of a command
    QUERN_FAULT_MAX_THREADS=$n with_fault "" "$quern" $command -o "$target" --threads 8
    check "no more than $n threads, $command: exit code $?" whole "$work/${command%% *}.gguf"
    check "no more than $n threads: the message" grep -q 'starts no more threads' "$work/stderr"
  done
done

# File systems without hard links, and such as know no RENAME_NOREPLACE either.
export QUERN_FAULT_NO_TMPFILE=1
for QUERN_FAULT_NO_NOREPLACE in "" 1; do
  [ -z "$QUERN_FAULT_NO_NOREPLACE" ] || export QUERN_FAULT_NO_NOREPLACE
  fresh
  with_fault "link:1+:$EPERM" "$quern" convert "$work/in" -o "$target"
  check "no hard links: exit code $?" whole "$work/convert.gguf"
  fresh "an old model"
  with_fault "link:1+:$EPERM" "$quern" convert "$work/in" --force -o "$target"
  check "no hard links, by force: exit code $?" whole "$work/convert.gguf"
  fresh "an old model"
  with_fault "link:1+:$EPERM" "$quern" convert "$work/in" -o "$target"
  check "no hard links, an old file: exit code $?" untouched "an old model"
done
unset QUERN_FAULT_NO_TMPFILE QUERN_FAULT_NO_NOREPLACE

# Memory, in readers, codecs and writers: in the sweep only, every 7th allocation.
new_steps() {
  [ "$mode" != sweep ] || seq 1 7 "$(awk '$1 == "new" { print $2 }' "$work/counts")"
}
for command in "convert $work/in" "quantize $work/convert.gguf -t q4_0" "quantize $work/in -t q4_k_m"; do
  fresh
  # shellcheck disable=SC2086 # the words of a command
  check "counting" counts "$quern" $command -o "$target" --threads 1 >/dev/null
  reference=$work/reference.gguf
  mv "$target" "$reference"
  for n in $(new_steps); do
    fresh
    # shellcheck disable=SC2086
    with_fault "new:$n:12" "$quern" $command -o "$target" --threads 1
    judge "allocation $n: $command" $? "$reference"
  done
done

# Short and interrupted reads and writes, all the way.
for call in read write; do
  fresh
  with_fault "$call:1+:short" "$quern" -q convert "$work/in" -o "$target"
  check "short ${call}s" whole "$work/convert.gguf"
  with_fault "$call:1+:short" "$quern" -q quantize -t q4_0 <"$work/convert.gguf" >"$work/piped.gguf"
  check "short ${call}s through pipes" cmp -s "$work/piped.gguf" "$work/quantize.gguf"
done
finish
