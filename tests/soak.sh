#!/bin/bash
# soak.sh [-t SECONDS | -n EXECUTIONS] [HARNESS...]: long fuzzing under the sanitizers, every harness of tests/fuzz or
# those named, two at a time. Default: 600 seconds each. A harness starts from its corpus and from what earlier soaks
# found (build/soak/NAME); an input that fails is left in build/soak. Make it a named file in tests/fuzz/corpus.
# The last line is "N passed, N failed, N skipped"; the exit code is 1 if anything failed.
set -u
cd "$(dirname "$0")/.." || exit 1
budget=-max_total_time=600
while getopts t:n: option; do
  case $option in
    t) budget=-max_total_time=$OPTARG ;;
    n) budget=-runs=$OPTARG ;;
    *) sed -n '2,6s/^# //p' "$0" >&2; exit 2 ;;
  esac
done
shift $((OPTIND - 1))
tools/install_packages.sh build test || exit 1
. tests/steps.sh

configure_and_build "sanitizers" build/asan -C tools/cmake/asan.cmake -DQUERN_WERROR=ON || { closing_line; exit 1; }
[ $# -gt 0 ] || set -- $(cd build/asan/tests/fuzz && find . -maxdepth 1 -name '*_fuzz' -type f | sed 's|^\./||; s/_fuzz$//' | sort)

# soak NAME: one harness, from its corpus and its own findings.
soak() {
  local corpus=${1/#codec_*/codec}
  mkdir -p "build/soak/$1"
  "build/asan/tests/fuzz/$1_fuzz" "$budget" -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
    -verbosity=0 -artifact_prefix="build/soak/$1-" "build/soak/$1" "tests/fuzz/corpus/$corpus"
}

say "soak ($budget each)"
results=$(mktemp -d)
for name in "$@"; do
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
  (run_step "soak $name" soak "$name" >"$results/$name"; echo $? >"$results/$name.code") &
done
wait
for name in "$@"; do
  cat "$results/$name"
  sed -n 's/^stat::number_of_executed_units: */     executions: /p' "$(log_of "soak $name")"
  if [ "$(cat "$results/$name.code")" -eq 0 ]; then n_passed=$((n_passed + 1)); else n_failed=$((n_failed + 1)); fi
done
rm -rf "$results"
closing_line
