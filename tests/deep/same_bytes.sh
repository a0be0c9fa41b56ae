# shellcheck shell=bash
# Sourced by deep.sh: whether another build of quern writes the very bytes of the reference.

# bytes_of COMMAND...: one line "TYPE HASH" for each type to which the fixture is converted.
bytes_of() {
  local type
  for type in source f32 f16 bf16 q8_0 q4_0; do
    echo "$type $("$@" quantize tests/data/fixture/meta-2 -t $type -o - </dev/null | sha256sum)"
  done
}

reference_bytes() {
  bytes_of "$@" >build/reference_bytes && [ "$(sort -u -k2,2 build/reference_bytes | wc -l)" -ge 5 ]
}

# same_bytes LABEL COMMAND...
same_bytes() {
  local label=$1
  shift
  compare_bytes() { bytes_of "$@" | diff build/reference_bytes -; }
  run_step "$label same bytes" compare_bytes "$@"
}
