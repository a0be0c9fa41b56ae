#!/bin/bash
# measure_types.sh QUERN [options of perplexity]: what every preset costs on the fixture, as tools/measured_types.inc has it (to stdout).
# A row: preset, perplexity over that of the checkpoint itself, mean KL divergence from it in nats.
set -eu -o pipefail
quern=$(realpath "$1")
shift
data=$(dirname "$(realpath "$0")")/../../tests/data/fixture
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

presets=$("$quern" types --json | sed -n 's/.*"name": "\(.*\)".*/\1/p' | grep -v -x source)
for preset in $presets; do
  "$quern" quantize -q "$data/meta-2" -t "$preset" -o "$work/$preset.gguf"
done
"$quern" perplexity -q "$work"/*.gguf --text "$data/austen.txt" --reference "$data/meta-2" --json="$work/report.json" \
  "$@" >/dev/null
echo '// Made by bench/quant/measure_types.sh from the fixture; `tests/deep.sh types` compares. Do not edit.'
awk -v presets="$presets" '
  function number() { getline; return $2 + 0 }
  $1 == "\"model\":" && /\.gguf/ { n = split($2, parts, "/"); name = parts[n]; sub(/\.gguf.*/, "", name) }
  $1 == "\"perplexity_ratio\":" { ratio[name] = number() }
  $1 == "\"mean_kld_nats\":" && $2 == "{" { kld[name] = number() }
  END {
    n = split(presets, order)
    for (i = 1; i <= n; ++i) {
      if (!(order[i] in kld)) { print "no figures for " order[i] > "/dev/stderr"; exit 1 }
      printf "{\"%s\", %.5f, %.6f},\n", order[i], ratio[order[i]], kld[order[i]]
    }
  }' "$work/report.json"
