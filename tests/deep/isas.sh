# shellcheck shell=bash
# The release build as older processors run it: AVX2, SSE4.2, SSSE3. (AVX-512 is what the host has, or has not.)
# Left out: what takes minutes each under emulation and says no more than its small siblings. The same products run on this
# machine below.
long_tests='KnownValues.*:*/FixtureTest.*:*Million*:*Thousand*:Perplexity.AWindowThatDoesNotFit*:*TheBits*:*TheSameBits*'
long_tests+=':GateTrials.*:AttentionParts.Splitting*:Transcode.SameBytesForAny*:Transcode.EveryPreset*:HostileFiles.*OfMany*'
long_tests+=':Llama.PartsOf*:PerTensor.*:Merge.*:QpackAttacks.*:*EveryFlippedBit*:*EveryTruncation*:*FullSize*'

# gtests_on CPU NAME: the release build's test programs of that name, as many at a time as there are processors, the largest
# first.
gtests_on() {
  local cpu=$1 program log label
  local programs
  mapfile -t programs < <(find build/release/tests -name "$2" -type f -perm -u+x -printf '%s %p\n' | sort -rn | cut -d ' ' -f 2)
  for program in "${programs[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
    log=$(log_of "$cpu $(basename "$program")")
    (timeout 1800 qemu-x86_64 -cpu "$cpu" "$program" --gtest_filter="-$long_tests" >"$log" 2>&1 </dev/null
     echo "exit code $?" >>"$log") &
  done
  wait
  for program in "${programs[@]}"; do
    label="$cpu $(basename "$program")"
    log=$(log_of "$label")
    local passed skipped failed milliseconds
    number_of() { sed -n "s/^\[ *$1 *\] \([0-9]*\) tests\{0,1\}[.,].*/\1/p" "$log" | tail -n 1; }
    passed=$(number_of PASSED) skipped=$(number_of SKIPPED) failed=$(number_of FAILED)
    milliseconds=$(sed -n 's/^\[=*\] .* ran\. (\([0-9]*\) ms total)$/\1/p' "$log" | tail -n 1)
    grep -qx 'exit code 0' "$log" || [ "${failed:-0}" -gt 0 ] || failed=1
    [ "${failed:-0}" -eq 0 ] || grep -v -E '^\[ (RUN|      OK) ' "$log" | tail -n 60
    count "$label" "${passed:-0}" "${failed:-0}" "${skipped:-0}" $((${milliseconds:-0} / 1000))
  done
}

# The least processor runs all programs, the others those with kernels.
for cpu in core2duo Nehalem Haswell; do
  case $cpu in
    core2duo) gtests_on $cpu '*_test' ;;
    *) gtests_on $cpu quern_quant_test
       gtests_on $cpu verify_test ;;
  esac
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
