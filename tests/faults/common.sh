# shellcheck shell=bash
# Sourced by the tests of faults: NAME.sh QUERN SHIM MAKE_CHECKPOINT [quick|sweep]. They share one invariant: whatever
# fails, the target is absent or untouched, or whole; nothing else lies beside it; the message names a path.
# "quick" (the default) tries a few of the steps of a run, "sweep" each of them.
set -u
[ $# -ge 3 ] || { echo "usage: ${0##*/} QUERN SHIM MAKE_CHECKPOINT [quick|sweep]" >&2; exit 2; }
quern=$(realpath "$1") shim=$(realpath "$2") make_checkpoint=$(realpath "$3") mode=${4:-quick}
export LC_ALL=C
work=$(mktemp -d)
n_tried=0 n_failed=0

cleanup() {
  local mount
  # A process in the background that is stopped before it has become itself would do it, too.
  [ "$BASHPID" -eq $$ ] || return
  for mount in "$work"/*.mount; do umount "$mount" 2>/dev/null; done
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

skip() { echo "skipped: $*" >&2; exit 77; }
fail() {
  echo "FAILED: $*" >&2
  [ ! -s "$work/stderr" ] || sed 's/^/    /' "$work/stderr" >&2
  n_failed=$((n_failed + 1))
}
# check WHAT COMMAND...: counts a check; a failing command fails the test.
check() {
  local what=$1
  shift
  n_tried=$((n_tried + 1))
  "$@" || fail "$what"
}
finish() {
  echo "$n_tried tried, $n_failed failed"
  [ $n_failed -eq 0 ] && [ $n_tried -gt 0 ]
  exit
}

# The inputs, and what a run without faults makes of them.
"$make_checkpoint" "$work/in" llama2 2 f16 || exit 1
"$quern" -q convert "$work/in" -o "$work/convert.gguf" --threads 1 || exit 1
"$quern" -q quantize "$work/in" -t q4_0 -o "$work/quantize.gguf" --threads 1 || exit 1
mkdir "$work/out"
target=$work/out/model.gguf
# Two windows of a text, for what is written beside models: the commands, to which the file that they write is to be added.
head -c 400 "$(dirname "${BASH_SOURCE[0]}")/../data/fixture/kjv.txt" >"$work/text"
save_logits=(perplexity "$work/convert.gguf" --text "$work/text" -c 16 --chunks 2 --threads 1 --save-logits)
collect=(imatrix "$work/convert.gguf" --text "$work/text" -c 16 --chunks 2 --threads 1 -o)

# fresh [OLD]: an empty folder for the target, or one with an old file of that content.
fresh() {
  rm -rf "$work/out"
  mkdir "$work/out"
  [ $# -eq 0 ] || printf '%s' "$1" >"$target"
}
entries() { ls -A "$work/out"; }
# untouched [OLD]: the target is absent, or has the old content, and nothing else is there.
untouched() {
  if [ $# -eq 0 ]; then [ -z "$(entries)" ]; else [ "$(entries)" = model.gguf ] && printf '%s' "$1" | cmp -s - "$target"; fi
}
# whole REFERENCE: the target is there with the right bytes, and nothing else.
whole() { [ "$(entries)" = model.gguf ] && cmp -s "$target" "$1"; }
# says WORD...: the message is one error that names each word.
says() {
  local word
  [ "$(grep -c 'error: ' "$work/stderr")" -eq 1 ] || return 1
  for word in "$@"; do grep -qF -- "$word" "$work/stderr" || return 1; done
}
# says_a_path: the message is an error that names a path of ours, or that memory ran out.
says_a_path() { says && grep -qE "error: ($work/|standard |.*\[memory\.)" "$work/stderr"; }

# steps COUNT: which of so many steps to try.
steps() {
  if [ "$mode" = sweep ] || [ "$1" -le 4 ]; then
    seq "$1"
  else
    { seq 2; seq $(($1 / 3)) $(($1 / 3 + 1)) "$1"; echo $(($1 - 1)); echo "$1"; } | sort -nu | awk -v n="$1" '$1 <= 2 || $1 >= n - 1 || ++k <= 3'
  fi
}
# counts COMMAND...: "CALL NUMBER" for each kind of call that the command makes.
counts() {
  rm -f "$work/counts"
  env LD_PRELOAD="$shim" QUERN_FAULT_COUNTS="$work/counts" "$@" >/dev/null 2>"$work/stderr" || return 1
  cat "$work/counts"
}
# with_fault FAULT COMMAND...
with_fault() {
  local fault=$1
  shift
  # In braces, so that what bash says of a killed program goes there too.
  { timeout 60 env LD_PRELOAD="$shim" QUERN_FAULT="$fault" "$@"; } 2>"$work/stderr"
}
