# shellcheck shell=bash
# Sourced by deep.sh: whether another build of quern writes the very bytes of the reference, and measures the same.

# bytes_of COMMAND...: one line "TYPE HASH" for each type to which the fixture is converted, and for convert.
bytes_of() {
  local type
  echo "convert $("$@" convert tests/data/fixture/meta-2 -o - </dev/null | sha256sum)"
  for type in source f32 f16 bf16 q8_0 q4_0 q4_k_m q2_k_s iq4_xs mxfp4; do
    echo "$type $("$@" quantize tests/data/fixture/meta-2 -t $type -o - </dev/null | sha256sum)"
  done
}

# perplexity_of COMMAND...: of the fixture, over four windows.
perplexity_of() {
  "$@" perplexity tests/data/fixture/meta-2 --text tests/data/fixture/austen.txt --chunks 4 --json </dev/null |
    sed -n 's/^ *"perplexity": *\([0-9.]*\),$/\1/p'
}

reference_bytes() {
  bytes_of "$@" >build/reference_bytes && [ "$(sort -u -k2,2 build/reference_bytes | wc -l)" -ge 8 ] &&
    perplexity_of "$@" >build/reference_perplexity && [ -s build/reference_perplexity ]
}

# same_bytes LABEL COMMAND...
same_bytes() {
  local label=$1
  shift
  compare_bytes() { bytes_of "$@" | diff build/reference_bytes -; }
  run_step "$label same bytes" compare_bytes "$@"
}

# same_perplexity LABEL COMMAND...: within 1e-4, since processors and compilers sum in different orders.
same_perplexity() {
  local label=$1
  shift
  compare_perplexity() {
    perplexity_of "$@" | paste -d ' ' - build/reference_perplexity |
      awk '{ print; exit !(NF == 2 && ($1 - $2) ^ 2 <= (1e-4 * $2) ^ 2) }'
  }
  run_step "$label same perplexity" compare_perplexity "$@"
}
