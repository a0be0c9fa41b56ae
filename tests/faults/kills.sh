#!/bin/bash
# kills.sh QUERN SHIM MAKE_CHECKPOINT [quick|sweep]
# A run is killed, terminated and interrupted at every step: nothing is left, or all of it.
. "$(dirname "$0")/common.sh"

# judge LABEL CODE EXPECTED REFERENCE [OLD]
judge() {
  local label=$1 code=$2 expected=$3 reference=$4
  shift 4
  check "$label: exit code $code" [ "$code" -eq "$expected" ]
  # A name that SIGKILL left is removed by the next run; a signal that can be caught leaves none.
  if [ "$expected" -eq 137 ] && ls -A "$work/out" | grep -q '^\.model\.gguf\.quern-tmp-'; then
    "$quern" -q convert "$work/in" --force -o "$target"
    check "$label: the next run leaves $(entries | tr '\n' ' ')" whole "$work/convert.gguf"
    return
  fi
  untouched "$@" || whole "$reference" || check "$label: the folder has $(entries | tr '\n' ' ')" false
}

# all_steps REFERENCE OLD COMMAND...
all_steps() {
  local reference=$1 old=$2 count n action
  shift 2
  fresh ${old:+"$old"}
  count=$(counts "$@" | awk '$1 == "any" { print $2 }')
  for n in $(steps "$count"); do
    for action in kill:137 term:143 int:130; do
      fresh ${old:+"$old"}
      with_fault "any:$n:${action%:*}" "$@"
      judge "${action%:*} before call $n: ${*:2:2}" $? "${action#*:}" "$reference" ${old:+"$old"}
    done
  done
}
all_steps "$work/convert.gguf" "" "$quern" -q convert "$work/in" -o "$target" --threads 1
all_steps "$work/quantize.gguf" "an old model" "$quern" -q quantize "$work/convert.gguf" -t q4_0 --force -o "$target" --threads 1
"$quern" -q "${save_logits[@]}" "$work/base.logits" >/dev/null || exit 1
all_steps "$work/base.logits" "" "$quern" -q "${save_logits[@]}" "$target" >/dev/null
export QUERN_FAULT_NO_TMPFILE=1
all_steps "$work/convert.gguf" "" "$quern" -q convert "$work/in" -o "$target" --threads 1
all_steps "$work/quantize.gguf" "an old model" "$quern" -q quantize "$work/convert.gguf" -t q4_0 --force -o "$target" --threads 1
unset QUERN_FAULT_NO_TMPFILE

# Ctrl-C answers at once, also where the run waits for its input or for whoever reads its output.
mkfifo "$work/fifo"
# interrupted LABEL: interrupts the run of quern whose process is $!, once it waits, and looks at what it does.
interrupted() {
  local label=$1 pid=$! code=0 killer
  until [ "$(cat /proc/$pid/comm)" = quern ]; do sleep 0.02; done
  sleep 0.3
  kill -INT $pid
  # A run that does not answer is killed after a while, and the exit code tells.
  { sleep 10; kill -9 $pid; } >/dev/null 2>&1 &
  killer=$!
  wait $pid || code=$?
  kill $killer
  check "$label: exit code $code" [ $code -eq 130 ]
  check "$label: the folder has $(entries | tr '\n' ' ')" untouched
}
# A shell that is no terminal's lets programs in the background ignore SIGINT.
fresh
exec 8<>"$work/fifo"
head -c 60000 "$work/convert.gguf" >&8
env --default-signal=INT "$quern" quantize -t q4_0 -o "$target" <"$work/fifo" 2>"$work/stderr" 8>&- &
interrupted "Ctrl-C while the input is slow"
mkfifo "$work/sink"
exec 9<>"$work/sink"
env --default-signal=INT "$quern" convert "$work/in" -t f32 >"$work/sink" 2>"$work/stderr" 9>&- &
interrupted "Ctrl-C while nobody reads the output"

# A run whose reader goes away is silent.
"$quern" convert "$work/in" -t f32 2>"$work/stderr" | head -c 1 >/dev/null
code=${PIPESTATUS[0]}
check "the reader went away: exit code $code" [ "$code" -eq 141 ]
check "the reader went away: silent" [ ! -s "$work/stderr" ]
finish
