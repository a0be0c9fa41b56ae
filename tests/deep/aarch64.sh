# shellcheck shell=bash
# NEON, and a build that has never seen x86. oneDNN is left out: the portable product is the path of the edge.
long_tests='KnownValues|FixtureTest|Million|Thousand|AWindowThatDoesNotFit|TheBits|TheSameBits|GateTrials|Splitting|SameBytesForAny'
long_tests+='|EveryPreset|OfMany|/Llama\.PartsOf|/PerTensor|/Merge|QpackAttacks|EveryFlippedBit|EveryTruncation|FullSize'
# What starts the program itself, as the shell cases do, would need the kernel to know of qemu.
long_tests+='|tools_test/(BadInputs|HostileFiles)'
sysroot=$root/build/aarch64-sysroot
run_step "aarch64 libraries" tests/deep/aarch64_sysroot.sh "$sysroot" libstdc++-12-dev libfmt-dev libhwy-dev \
  libtbb-dev libprotobuf-dev libxxhash-dev libzstd-dev libdeflate-dev libmd-dev libpcre2-dev nlohmann-json3-dev \
  libcli11-dev libgtest-dev
if [ -e "$sysroot/.packages" ]; then
  # clang 14 does not know every hardening flag there.
  configure_and_build "aarch64" build/aarch64 -C tools/cmake/release.cmake \
    --toolchain "$root/tools/cmake/aarch64.cmake" -DQUERN_SYSROOT="$sysroot" \
    -DCMAKE_CXX_FLAGS=-Wno-unused-command-line-argument -DQUERN_WERROR=ON -DQUERN_ONEDNN=OFF -DQUERN_BENCH=OFF &&
    run_ctests "aarch64 tests" build/aarch64 -LE cli -E "$long_tests" &&
    same_bytes "aarch64" qemu-aarch64 -L "$sysroot" build/aarch64/quern &&
    same_perplexity "aarch64" qemu-aarch64 -L "$sysroot" build/aarch64/quern
fi
