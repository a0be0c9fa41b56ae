# shellcheck shell=bash
# Sourced by run.sh, deep.sh and soak.sh: steps that are timed and counted. A step's output goes to a log in build/logs
# and is shown only where the step failed; skipped tests are named.
#
#   configure_and_build LABEL FOLDER [cmake options]
#   run_ctests LABEL FOLDER [ctest options]
#   run_step LABEL command...     exit code 77: skipped
#   closing_line                  last: "N passed, N failed, N skipped"; returns 1 if anything failed

n_passed=0 n_failed=0 n_skipped=0
root=$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")
logs=$root/build/logs
jobs=$(nproc)
mkdir -p "$logs"
# Tests must not depend on who runs them.
unset CDPATH GREP_OPTIONS QUERN_ISA
export LC_ALL=C.UTF-8
# A clone in another folder finds what an earlier one compiled.
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1

say() { printf '== %s\n' "$*"; }

count() {  # count LABEL PASSED FAILED SKIPPED SECONDS
  n_passed=$((n_passed + $2)) n_failed=$((n_failed + $3)) n_skipped=$((n_skipped + $4))
  printf '   %-28s %5d ok  %3d failed  %3d skipped  %4d s\n' "$1" "$2" "$3" "$4" "$5"
}

log_of() { echo "$logs/$(tr -c 'A-Za-z0-9\n' '-' <<<"$1").log"; }

run_step() {
  local label=$1 start=$SECONDS code=0 log
  shift
  log=$(log_of "$label")
  "$@" >"$log" 2>&1 </dev/null || code=$?
  case $code in
    0) count "$label" 1 0 0 $((SECONDS - start)) ;;
    77) sed 's/^/   /' "$log" | tail -n 3
        count "$label" 0 0 1 $((SECONDS - start)) ;;
    *) tail -n 60 "$log"
       count "$label" 0 1 0 $((SECONDS - start))
       return 1 ;;
  esac
}

configure_and_build() {
  local label=$1 folder=$2
  shift 2
  local launcher=()
  command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_C_COMPILER_LAUNCHER=ccache)
  run_step "$label configure" cmake -G Ninja -S "$root" -B "$folder" "${launcher[@]}" "$@" &&
    run_step "$label build" cmake --build "$folder" -j "$jobs"
}

run_ctests() {
  local label=$1 folder=$2 start=$SECONDS log suite
  shift 2
  log=$(log_of "$label")
  rm -f "$log.xml"
  ctest --test-dir "$folder" -j "$jobs" --timeout 900 --no-tests=error --output-on-failure \
    --output-junit "$log.xml" "$@" >"$log" 2>&1 </dev/null
  local code=$?
  suite=$(sed -n '/<testsuite/,/>/p' "$log.xml" 2>/dev/null | tr '\n\t' '  ')
  local tests failures skipped
  tests=$(sed -n 's/.* tests="\([0-9]*\)".*/\1/p' <<<"$suite")
  failures=$(sed -n 's/.* failures="\([0-9]*\)".*/\1/p' <<<"$suite")
  skipped=$(sed -n 's/.* skipped="\([0-9]*\)".*/\1/p' <<<"$suite")
  if [ -z "$tests" ]; then  # ctest itself failed
    tests=1 failures=1 skipped=0
  elif [ $code -ne 0 ] && [ "$failures" -eq 0 ]; then
    failures=1 tests=$((tests + 1))
  fi
  sed -n 's/.*Test *#[0-9]*: \(.*[^.]\) \.*\*\*\*Skipped.*/   skipped: \1/p' "$log"
  [ "$failures" -eq 0 ] || grep -v -E ' Passed  |^ *Start +[0-9]|^Test project|^Internal ctest' "$log" | tail -n 300
  count "$label" $((tests - failures - skipped)) "$failures" "$skipped" $((SECONDS - start))
  [ "$failures" -eq 0 ]
}

closing_line() {
  echo "$n_passed passed, $n_failed failed, $n_skipped skipped"
  [ $n_failed -eq 0 ] && [ $n_passed -gt 0 ]
}
