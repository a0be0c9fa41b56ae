#!/bin/bash
# targets.sh QUERN SHIM MAKE_CHECKPOINT [quick|sweep]
# Outputs that are an input, a link, a special file, or somebody else's; inputs that change.
. "$(dirname "$0")/common.sh"

refused() {  # refused LABEL CODE EXPECTED WORD...
  local label=$1 code=$2 expected=$3
  shift 3
  check "$label: exit code $code" [ "$code" -eq "$expected" ]
  check "$label: the message" says "$@"
}
same_inputs() { (cd "$work/in" && md5sum ./*) | cmp -s - "$work/sums"; }
(cd "$work/in" && md5sum ./*) >"$work/sums"

# An input as the output, by its own name and through links.
shard=$work/in/consolidated.01.pth
ln -s "$shard" "$work/out/symbolic"
ln "$shard" "$work/out/hard"
ln -s "$work/out/symbolic" "$work/out/twice"
for output in "$shard" "$work/out/symbolic" "$work/out/hard" "$work/out/twice" "$work/in/params.json"; do
  "$quern" convert "$work/in" --force -o "$output" 2>"$work/stderr"
  refused "an input as output, $output" $? 5 "$output" "output.is-input"
  check "the inputs stay as they are" same_inputs
done
cp "$work/convert.gguf" "$work/model.gguf"
"$quern" quantize -t q4_0 --force -o "$work/model.gguf" <"$work/model.gguf" 2>"$work/stderr"
refused "standard input as output" $? 5 "$work/model.gguf" "output.is-input"
"$quern" quantize "$work/model.gguf" -t q4_0 >>"$work/model.gguf" 2>"$work/stderr"
refused "standard output appends to an input" $? 5 "standard output" "output.is-input"
check "the model stays as it is" cmp -s "$work/model.gguf" "$work/convert.gguf"

# Links to somewhere else are followed, and stay links.
fresh "an old model"
ln -s model.gguf "$work/out/link"
ln -s new.gguf "$work/out/dangling"
"$quern" -q convert "$work/in" --force -o "$work/out/link" 2>"$work/stderr"
check "a link to an old file" [ -L "$work/out/link" ]
check "a link to an old file: its bytes" cmp -s "$target" "$work/convert.gguf"
"$quern" -q convert "$work/in" -o "$work/out/dangling" 2>"$work/stderr"
check "a link to nothing: its bytes" cmp -s "$work/out/new.gguf" "$work/convert.gguf"
ln -s loop "$work/out/loop"
"$quern" convert "$work/in" -o "$work/out/loop" 2>"$work/stderr"
refused "a link to itself" $? 5 "$work/out/loop"

# Special files.
fresh
"$quern" convert "$work/in" --force -o "$work/out" 2>"$work/stderr"
refused "a directory" $? 5 "$work/out" "output.directory"
"$quern" convert "$work/in" -o "$work/missing/model.gguf" 2>"$work/stderr"
refused "a folder that is missing" $? 5 "$work/missing/model.gguf"
"$quern" -q convert "$work/in" -o /dev/null 2>"$work/stderr"
check "/dev/null takes all" [ $? -eq 0 ]
check "/dev/null stays a device" [ -c /dev/null ]
mkfifo "$work/out/fifo"
cat "$work/out/fifo" >"$work/from_fifo" &
"$quern" -q convert "$work/in" -o "$work/out/fifo" 2>"$work/stderr"
check "a FIFO: exit code $?" wait $!
check "a FIFO gets the bytes" cmp -s "$work/from_fifo" "$work/convert.gguf"
check "a FIFO stays one" [ -p "$work/out/fifo" ]
fresh
chmod a-w "$work/out"
chmod -R a+rX "$work"
cp "$quern" "$work/quern_for_all"
as_nobody=()
[ "$(id -u)" -ne 0 ] || as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
"${as_nobody[@]}" "$work/quern_for_all" convert "$work/in" -o "$target" 2>"$work/stderr"
refused "a folder without permission" $? 5 "$target"
chmod u+w "$work/out"
"$quern" convert "$work/in" -o "$work/out/$(printf 'n%.0s' {1..300})" 2>"$work/stderr"
refused "a name that is too long" $? 5 "output.open"
if [ -b /dev/loop0 ]; then
  "$quern" convert "$work/in" -o /dev/loop0 2>"$work/stderr"
  refused "a block device without force" $? 5 /dev/loop0 "output.exists"
fi
script -qec "$quern convert $work/in -o /dev/tty" "$work/typescript" >/dev/null 2>&1
check "a terminal: exit code $?" grep -q 'usage.binary-to-terminal' "$work/typescript"
script -qec "$quern convert $work/in" "$work/typescript" >/dev/null 2>&1
check "standard output is a terminal: exit code $?" grep -q 'usage.binary-to-terminal' "$work/typescript"
check "permission bits follow umask" eval '(umask 027; "$quern" -q convert "$work/in" -o "$target") && [ "$(stat -c %a "$target")" = 640 ]'
fresh
check "no HOME, an odd locale" env -i LC_ALL=xx_YY "$quern" -q convert "$work/in" -o "$target"
check "no HOME, an odd locale: the bytes" whole "$work/convert.gguf"

# Several runs want the same target: without --force one of them wins, with it all succeed.
writers() {  # writers FLAGS: prints the exit codes
  local pids=() i
  for i in 1 2 3 4 5 6; do
    "$quern" -q convert "$work/in" $1 -o "$target" 2>"$work/stderr.$i" &
    pids+=($!)
  done
  for i in "${pids[@]}"; do wait "$i"; echo $?; done
}
for QUERN_FAULT_NO_TMPFILE in "" 1; do
  [ -z "$QUERN_FAULT_NO_TMPFILE" ] || export QUERN_FAULT_NO_TMPFILE LD_PRELOAD=$shim
  fresh
  codes=$(writers "" | sort | uniq -c | tr -s ' \n' ' ')
  check "six writers: exit codes$codes" [ "$codes" = " 1 0 5 5 " ]
  check "six writers: the bytes" whole "$work/convert.gguf"
  fresh "an old model"
  codes=$(writers --force | sort | uniq -c | tr -s ' \n' ' ')
  check "six writers by force: exit codes$codes" [ "$codes" = " 6 0 " ]
  check "six writers by force: the bytes" whole "$work/convert.gguf"
done
unset QUERN_FAULT_NO_TMPFILE LD_PRELOAD

# An input that changes while it is read. The output is a FIFO that nobody reads at first.
# while_reading INPUT CHANGE...: runs a pass over INPUT, applies the change when it has begun.
while_reading() {
  local input=$1 pid code=0
  shift
  rm -f "$work/out/fifo"
  mkfifo "$work/out/fifo"
  "$quern" convert "$input" -t f32 --memory 1MiB >"$work/out/fifo" 2>"$work/stderr" &
  pid=$!
  exec 8<"$work/out/fifo"
  head -c 4096 <&8 >/dev/null
  sleep 0.1
  "$@"
  cat <&8 >/dev/null
  exec 8<&-
  wait $pid || code=$?
  return $code
}
fresh
# More than a pipe holds must be unread when the change comes.
cp "$work/convert.gguf" "$work/model.gguf"
overwrite() { printf X | dd of="$work/model.gguf" bs=1 seek=100000 conv=notrunc status=none; }
while_reading "$work/model.gguf" overwrite
refused "a GGUF that changes" $? 3 "$work/model.gguf"
cp "$work/convert.gguf" "$work/model.gguf"
while_reading "$work/model.gguf" truncate -s 70000 "$work/model.gguf"
refused "a GGUF that becomes shorter" $? 3 "$work/model.gguf" "input.truncated"
cp "$work/convert.gguf" "$work/model.gguf"
while_reading - overwrite <"$work/model.gguf"
refused "standard input that changes" $? 3 "standard input"
while_reading "$work/in" truncate -s 70000 "$work/in/consolidated.01.pth"
refused "a shard that becomes shorter" $? 3 "$work/in/consolidated.01.pth" "input.truncated"
finish
