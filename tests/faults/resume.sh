#!/bin/bash
# resume.sh QUERN SHIM MAKE_CHECKPOINT [quick|sweep]
# --resume: whatever stops a run, the same command ends with the same bytes; another command is refused.
. "$(dirname "$0")/common.sh"
convert=("$quern" -q convert "$work/in" --resume -o "$target" --threads 1)
quantize=("$quern" -q quantize "$work/in" -t q4_0 --resume -o "$target" --threads 1)
partial=$target.partial journal=$target.partial.journal

unfinished_only() { ! entries | grep -qvE '^model\.gguf\.partial(\.journal)?$'; }
# resumed LABEL REFERENCE COMMAND...: the command ends what is there.
resumed() {
  local label=$1 reference=$2
  shift 2
  "$@" 2>"$work/stderr"
  check "$label: resumed, exit code $?" whole "$reference"
}

fresh
check "without a fault" counts "${convert[@]}" >/dev/null
check "without a fault: the bytes" whole "$work/convert.gguf"
n_calls=$(awk '$1 == "any" { print $2 }' "$work/counts")
n_writes=$(awk '$1 == "write" { print $2 }' "$work/counts")

# Killed at every step, and resumed.
for n in $(steps "$n_calls"); do
  for action in kill:137 term:143; do
    fresh
    with_fault "any:$n:${action%:*}" "${convert[@]}"
    code=$?
    check "${action%:*} before call $n: exit code $code" [ $code -eq "${action#*:}" ]
    if [ -e "$target" ]; then
      # Only the journal was left to remove.
      check "${action%:*} before call $n: the bytes" cmp -s "$target" "$work/convert.gguf"
      resumed "${action%:*} before call $n" "$work/convert.gguf" "${convert[@]}" --force
    else
      check "${action%:*} before call $n: the folder has $(entries | tr '\n' ' ')" unfinished_only
      resumed "${action%:*} before call $n" "$work/convert.gguf" "${convert[@]}"
    fi
  done
done
# Killed over and over, each time a little later.
fresh
for n in $(seq 60 9 400); do
  with_fault "any:$n:kill" "${quantize[@]}" && break
  [ ! -e "$target" ] || break  # only the journal was left to remove
done
check "killed over and over" cmp -s "$target" "$work/quantize.gguf"

# Writes that fail leave what a later run continues, and the message says so.
for n in $(steps "$n_writes"); do
  fresh
  with_fault "write:$n:28" "${convert[@]}"
  code=$?
  check "write $n fails: exit code $code" [ $code -eq 5 ]
  check "write $n fails: the message" says "$target" "No space left on device"
  resumed "write $n fails" "$work/convert.gguf" "${convert[@]}"
done

# begun [COMMAND...]: an unfinished output of which about two thirds are there.
begun() {
  fresh
  with_fault "write:$((n_writes * 2 / 3)):28" "${convert[@]}"
  check "an unfinished output" [ "$(grep -c ^tensor "$journal")" -gt 3 ]
}
begun
check "what is finished is not done again" counts "${convert[@]}" >/dev/null
n_again=$(awk '$1 == "write" { print $2 }' "$work/counts")
check "what is finished is not done again: $n_again of $n_writes writes" [ "$n_again" -lt $((n_writes * 2 / 3)) ]
check "what is finished is not done again: the bytes" whole "$work/convert.gguf"

# Whatever a crash left of the files, the bytes are right.
damage() {  # damage LABEL COMMAND...
  local label=$1
  shift
  begun
  "$@"
  resumed "$label" "$work/convert.gguf" "${convert[@]}"
}
flip() { printf '\xAA' | dd of="$partial" bs=1 seek="$1" conv=notrunc status=none; }
damage "a bit of the header" flip 100
damage "a bit of a finished tensor" flip 200000
damage "a bit of a later one" flip 2000000
damage "a shorter file" truncate -s 300000 "$partial"
damage "a longer file" truncate -s 9000000 "$partial"
damage "no file" rm "$partial"
damage "a line cut off" truncate -s -5 "$journal"
damage "a line of something else" sed -i '3s/.*/tensor x y/' "$journal"
damage "a tensor that does not exist" sed -i '3s/^tensor 1/tensor 999999/' "$journal"
damage "a tensor left out" sed -i 3d "$journal"
damage "the first line cut off" truncate -s 9 "$journal"
damage "an empty journal" truncate -s 0 "$journal"

# Other inputs and flags are refused, and nothing is touched.
refused() {  # refused LABEL CODE WORD COMMAND...
  local label=$1 expected=$2 word=$3 code before
  shift 3
  before=$(cd "$work/out" && md5sum ./* 2>/dev/null)
  "$@" 2>"$work/stderr"
  code=$?
  check "$label: exit code $code" [ $code -eq "$expected" ]
  check "$label: the message" says "$word"
  check "$label: nothing is touched" [ "$(cd "$work/out" && md5sum ./* 2>/dev/null)" = "$before" ]
}
begun
refused "another type" 5 output.partial "${quantize[@]}"
refused "another name" 5 output.partial "${convert[@]}" --name other
with_fault "write:5:28" "$quern" -q quantize "$work/in" -t q4_0 --resume -o "$work/out/other.gguf"
refused "another effort" 5 output.partial "$quern" -q quantize "$work/in" -t q4_0 --effort best --resume -o "$work/out/other.gguf"
shard=$work/in/consolidated.01.pth
cp -p "$shard" "$work/shard"
printf X | dd of="$shard" bs=1 seek=$(($(stat -c %s "$shard") / 2)) conv=notrunc status=none
touch -r "$work/shard" "$shard"
refused "an input with another byte, its time set back" 5 output.partial "${convert[@]}"
cp "$work/shard" "$shard"
begun
if command -v flock >/dev/null; then
  refused "a run that goes on" 5 output.busy flock "$journal" "${convert[@]}"
fi
rm "$journal"
refused "no journal" 5 output.partial "${convert[@]}"
fresh
ln -s /dev/null "$partial"
refused "a link in its place" 5 "$target.partial" "${convert[@]}"
rm -f "$journal"
fresh "an old model"
refused "an old model" 5 output.exists "${convert[@]}"
resumed "an old model by force" "$work/convert.gguf" "${convert[@]}" --force
fresh
refused "standard output" 2 usage.resume "$quern" convert "$work/in" --resume
from_stdin() { "$quern" convert --resume -o "$target" <"$work/convert.gguf"; }
refused "standard input" 2 usage.resume from_stdin
refused "a device" 2 usage.resume "$quern" convert "$work/in" --resume -o /dev/null
finish
