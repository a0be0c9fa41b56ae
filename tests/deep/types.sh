# shellcheck shell=bash
# What `quern types` says that the presets cost is what they cost on the fixture.
same_measures() {
  bench/quant/measure_types.sh build/release/quern | tr -d '{"},' | grep -v '^//' >build/types.new &&
    tr -d '{"},' <tools/measured_types.inc | grep -v '^//' | paste -d ' ' - build/types.new | awk '
      function far(a, b, limit) { return a - b > limit || b - a > limit }
      { n++ }
      NF != 6 || $1 != $4 || far($2, $5, 1e-4) || far($3, $6, 1e-6 + 0.01 * $6) { print "differs: " $0; bad = 1 }
      END { exit bad || n < 20 }'
}
run_step "types measured" same_measures
