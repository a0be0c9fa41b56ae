#!/bin/bash
# run_case.sh QUERN DATA CASE.sh
# Runs one shell case and compares what it did with the files beside it:
#   CASE.exit                        the exit code (absent: 0)
#   CASE.stdout.exact, .stderr.exact the very bytes (absent, and no .glob either: empty)
#   CASE.stdout.glob, .stderr.glob   line by line, * and ? as in the shell, all else literal; a line "..." stands
#                                    for any number of lines
# The case runs under `bash -eu` in an empty temporary folder with no standard input; `quern` is in PATH and $QUERN,
# and tests/data is the folder "data" ($DATA), so that messages that name it are the same everywhere.
# A case that exits with 77 was skipped: it says why on stderr.
set -u
quern=$(realpath "$1") data=$(realpath "$2") case=$(realpath "$3")
base=${case%.sh}
work=$(mktemp -d)
trap 'chmod -R u+rwx "$work" 2>/dev/null; rm -rf "$work"' EXIT
mkdir "$work/cwd" "$work/bin" "$work/home"
ln -s "$quern" "$work/bin/quern"
ln -s "$data" "$work/cwd/data"

(cd "$work/cwd" && PATH="$work/bin:$PATH" QUERN=quern DATA=data HOME="$work/home" LC_ALL=C TERM=dumb \
  bash -eu "$case" </dev/null >"$work/stdout" 2>"$work/stderr")
code=$?
if [ $code -eq 77 ]; then
  cat "$work/stderr"
  exit 77
fi

failed=0
expected_code=0
[ -e "$base.exit" ] && read -r expected_code <"$base.exit"
if [ "$code" != "$expected_code" ]; then
  echo "exit code $code, expected $expected_code"
  failed=1
fi

# Matches the lines of file $2 against the patterns in file $1; says which line has no match.
matches_glob() {
  local -a patterns lines
  mapfile -t patterns <"$1"
  mapfile -t lines <"$2"
  local p=0 n=0 resume_p=-1 resume_n=0 furthest=0
  while [ $n -lt ${#lines[@]} ] || [ $p -lt ${#patterns[@]} ]; do
    if [ $p -lt ${#patterns[@]} ] && [ "${patterns[p]}" = "..." ]; then
      p=$((p + 1)) resume_p=$p resume_n=$n
      continue
    fi
    if [ $p -lt ${#patterns[@]} ] && [ $n -lt ${#lines[@]} ]; then
      local pattern=${patterns[p]//\\/\\\\}
      pattern=${pattern//\[/\\[}
      # shellcheck disable=SC2053 # the right side is meant as a pattern
      if [[ ${lines[n]} == $pattern ]]; then
        p=$((p + 1)) n=$((n + 1))
        continue
      fi
    fi
    [ $p -gt $furthest ] && furthest=$p
    if [ $resume_p -lt 0 ] || [ $resume_n -ge ${#lines[@]} ]; then
      echo "no match for line $((furthest + 1)) of ${1##*/}: ${patterns[furthest]:-(end)}"
      return 1
    fi
    resume_n=$((resume_n + 1)) p=$resume_p n=$resume_n
  done
}

compare() {
  local stream=$1
  if [ -e "$base.$stream.glob" ]; then
    matches_glob "$base.$stream.glob" "$work/$stream"
  elif [ -e "$base.$stream.exact" ]; then
    diff -u --label expected --label "$stream" "$base.$stream.exact" "$work/$stream"
  else
    [ ! -s "$work/$stream" ] || { echo "$stream should be empty"; return 1; }
  fi
}

for stream in stdout stderr; do
  compare $stream || failed=1
done
if [ $failed -ne 0 ]; then
  for stream in stdout stderr; do
    echo "--- $stream:"
    head -c 8000 "$work/$stream" | cat -v
  done
fi
exit $failed
