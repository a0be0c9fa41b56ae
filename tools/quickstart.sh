#!/bin/bash
# From a fresh clone on Debian 12 to verified models: installs packages (asking for root only where some are missing),
# builds, converts the embedded checkpoint to four types, measures each against the original, prints one table.
# Run it again at any time: what is built is kept, the models are made anew.
#
#   tools/quickstart.sh          under ten minutes from nothing on two cores, seconds once built
set -eu
cd "$(dirname "$0")/.."
checkpoint=tests/data/fixture/meta-2
text=tests/data/fixture/austen.txt
build=build/quickstart
models=$build/models
quern=$build/quern
export LC_ALL=C.UTF-8
begun=$SECONDS

say() { printf '%4d s  %s\n' $((SECONDS - begun)) "$*" >&2; }
fail() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }

# run LOG command...: shows the log only if the command fails.
run() {
  local log=$1
  shift
  "$@" >"$log" 2>&1 </dev/null || { tail -n 40 "$log" >&2; fail "failed: $* (whole log: $log)"; }
}

say "checking packages"
tools/install_packages.sh build >&2 || fail "packages are missing"

mkdir -p "$models"
say "building quern in $build (minutes the first time)"
run $build/configure.log cmake -G Ninja -C tools/cmake/release.cmake -S . -B $build \
  -DQUERN_TESTS=OFF -DQUERN_BENCH=OFF
run $build/build.log cmake --build $build --target quern

# number KEY FILE: the first value of KEY in a JSON report.
number() { sed -n "s/^ *\"$1\": *\([-+.0-9eE]*\).*/\1/p" "$2" | head -n 1; }
# estimate KEY FILE: "value stderr" of an estimate inside a JSON report.
estimate() {
  sed -n "/\"$1\": *{/,/}/p" "$2" |
    sed -n 's/.*"value": *\([-+.0-9eE]*\).*/\1/p; s/.*"stderr": *\([-+.0-9eE]*\).*/\1/p' | tr '\n' ' '
}

table=$models/table.txt
: >"$table"
for type in source f16 q8_0 q4_0; do
  model=$models/austen-$type.gguf
  start=$(date +%s.%N)
  case $type in
    source | f16) command=convert ;;
    *) command=quantize ;;
  esac
  say "$type: quern $command $checkpoint -t $type -o $model"
  run $models/$type.log $quern $command $checkpoint -t $type -o $model --force --json=$models/$type.json
  say "$type: quern perplexity $model --text $text --reference $models/austen-source.gguf"
  run $models/$type.log $quern perplexity $model --text $text --reference $models/austen-source.gguf \
    --json=$models/$type-perplexity.json
  read -r kld kld_error _ <<<"$(estimate mean_kld_nats $models/$type-perplexity.json)"
  echo "$type" "$(number n_weights $models/$type.json)" "$(number tensor_bytes $models/$type.json)" \
    "$(number file_bytes $models/$type.json)" "$(number perplexity $models/$type-perplexity.json)" \
    "$(number stderr $models/$type-perplexity.json)" "$kld" "$kld_error" "$start" "$(date +%s.%N)" >>"$table"
done

say "done; the models are in $models"
awk '
  BEGIN {
    print "\ntype     bits per weight       size  perplexity ± error  mean KL divergence ± error  seconds"
  }
  NF != 10 { print "quickstart: a report lacks a number: " $0 > "/dev/stderr"; exit 1 }
  {
    printf "%-7s  %15.3f  %5.2f MiB  %9.4f ± %6.4f  %15.6f ± %8.6f  %7.1f\n",
      $1, $3 * 8 / $2, $4 / 1048576, $5, $6, $7, $8, $10 - $9
  }
  END { print "\nKL divergence in nats from the source; errors are standard errors; seconds to make and measure" }
  ' "$table"
