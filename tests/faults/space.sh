#!/bin/bash
# space.sh QUERN SHIM MAKE_CHECKPOINT [quick|sweep]
# Full disks, limits on the size of files, devices that take nothing.
. "$(dirname "$0")/common.sh"
size=$(stat -c %s "$work/convert.gguf")

# refused LABEL CODE WORD...: exit code 5, nothing there, and the message has the words.
refused() {
  local label=$1 code=$2
  shift 2
  check "$label: exit code $code" [ "$code" -eq 5 ]
  check "$label: the folder has $(entries | tr '\n' ' ')" untouched
  check "$label: the message" says "$@"
}

# Before the work: what is missing is told.
fresh
with_fault "any:1000000:full" "$quern" convert "$work/in" -o "$target"
refused "a full volume" $? "$target" "free" "$size bytes" "more" "output.space"
fresh
(ulimit -f $((size / 1024 - 1)); exec "$quern" convert "$work/in" -o "$target") 2>"$work/stderr"
refused "a limit on files" $? "$target" "a limit of" "$size bytes" "ulimit -f" "output.space"
(ulimit -f $((size / 1024 - 1)); exec "$quern" convert "$work/in") 2>"$work/stderr" >"$work/stdout"
check "a limit on standard output: exit code $?" [ $? -eq 5 -a ! -s "$work/stdout" ]
check "a limit on standard output: the message" says "standard output" "output.space"

(ulimit -f 1; exec "$quern" inspect "$work/in" --json="$work/out/report.json") 2>"$work/stderr"
refused "a report beyond the limit" $? "$work/out/report.json" "output.space"

# In the work: the limit is met where the size was not known (packing), the device is full.
(ulimit -f 1; exec "$quern" pack "$work/convert.gguf" -o "$target") 2>"$work/stderr"
refused "packing beyond the limit" $? "$target" "File too large"
fresh
for command in "${save_logits[*]}" "${collect[*]}"; do
  # shellcheck disable=SC2086 # the words of a command
  with_fault "write:1+:28" "$quern" $command "$target" >/dev/null
  refused "a full disk, ${command%% *}" $? "$target" "No space left on device"
done
fresh
"$quern" convert "$work/in" -o /dev/full 2>"$work/stderr"
refused "/dev/full" $? /dev/full "No space left on device"
"$quern" convert "$work/in" >/dev/full 2>"$work/stderr"
refused "/dev/full as standard output" $? "standard output" "No space left on device"
"$quern" convert "$work/in" >&- 2>"$work/stderr"
refused "a closed standard output" $? "standard output"
"$quern" quantize -t q4_0 -o "$target" <&- 2>"$work/stderr"
check "a closed standard input: exit code $?" [ $? -eq 3 ]
check "a closed standard input: nothing is left" untouched
check "a closed standard input: the message" says "standard input"

# A small file system that is filled by another program while the work goes on.
small=$work/small.mount
mkdir "$small"
if mount -t tmpfs -o size=$((size + 65536)) tmpfs "$small" 2>/dev/null; then
  mkfifo "$work/fifo"
  "$quern" convert -o "$small/model.gguf" <"$work/fifo" 2>"$work/stderr" &
  pid=$!
  exec 8>"$work/fifo"
  head -c 2000000 "$work/convert.gguf" >&8
  sleep 0.3
  head -c $size /dev/zero >"$small/other" 2>/dev/null
  tail -c +2000001 "$work/convert.gguf" >&8 2>/dev/null
  exec 8>&-
  code=0
  wait $pid || code=$?
  check "a disk that fills up: exit code $code" [ $code -eq 5 ]
  check "a disk that fills up: the message" says "$small/model.gguf" "No space left on device"
  check "a disk that fills up: nothing is left" [ "$(ls -A "$small")" = other ]
  rm "$small/other"
  head -c 100000 /dev/zero >"$small/other"
  "$quern" convert "$work/in" -o "$small/model.gguf" 2>"$work/stderr"
  check "a disk that is too full: exit code $?" [ $? -eq 5 ]
  check "a disk that is too full: the message" says "$small/model.gguf" "bytes free" "output.space"
  check "a disk that is too full: nothing is left" [ "$(ls -A "$small")" = other ]
else
  echo "no small file system: mounting is not permitted here" >&2
fi
finish
