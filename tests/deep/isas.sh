# shellcheck shell=bash
# The release build as older processors run it: AVX2, SSE4.2, SSSE3. (AVX-512 is what the host has, or has not.)
# Long texts are left out, since they take minutes each under emulation; the same products run on this machine below.
long_texts='KnownValues.*:*/FixtureTest.*:*.TwentyMillion*:Perplexity.AWindowThatDoesNotFit*:Perplexity.TheBits*'

# gtests_on CPU: all test programs of the release build, case by case.
gtests_on() {
  local cpu=$1 program log start label
  while read -r program; do
    start=$SECONDS label="$cpu $(basename "$program")"
    log=$(log_of "$label")
    timeout 1800 qemu-x86_64 -cpu "$cpu" "$program" --gtest_filter="-$long_texts" >"$log" 2>&1 </dev/null
    local code=$? passed skipped failed
    number_of() { sed -n "s/^\[ *$1 *\] \([0-9]*\) tests\{0,1\}[.,].*/\1/p" "$log" | tail -n 1; }
    passed=$(number_of PASSED) skipped=$(number_of SKIPPED) failed=$(number_of FAILED)
    [ $code -eq 0 ] || [ "${failed:-0}" -gt 0 ] || failed=1
    [ "${failed:-0}" -eq 0 ] || grep -v -E '^\[ (RUN|      OK) ' "$log" | tail -n 60
    count "$label" "${passed:-0}" "${failed:-0}" "${skipped:-0}" $((SECONDS - start))
  done < <(find build/release/tests -name '*_test' -type f -perm -u+x | sort)
}

for cpu in Haswell Nehalem core2duo; do
  gtests_on $cpu
  same_bytes "$cpu" qemu-x86_64 -cpu $cpu build/release/quern
  same_perplexity "$cpu" qemu-x86_64 -cpu $cpu build/release/quern
done

on_isa() {
  local isa=$1
  shift
  build/release/quern "$@" --isa "$isa"
}
for isa in avx2 sse4 ssse3 scalar; do
  same_bytes "--isa $isa" on_isa $isa
  same_perplexity "--isa $isa" on_isa $isa
done
