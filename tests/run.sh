#!/bin/bash
# Installs, builds and runs all tests: from nothing on a bare Debian 12 in 25 to 30 minutes on two cores.
#   build/release  g++, as it ships, warnings are errors: all tests, and what they compare with elsewhere
#   build/asan     clang with AddressSanitizer, UndefinedBehaviorSanitizer and libFuzzer: the same tests but those that
#                  measure, all fuzz corpora, and a short run of each harness
# The last line is "N passed, N failed, N skipped"; the exit code is 1 if anything failed.
# More compilers, instruction sets, machines and faults: tests/deep.sh. Longer fuzzing: tests/soak.sh.
set -u
cd "$(dirname "$0")/.." || exit 1
tools/install_packages.sh build test || exit 1
. tests/steps.sh

say "g++, release"
configure_and_build "release" build/release -C tools/cmake/release.cmake -DQUERN_WERROR=ON &&
  run_ctests "release tests" build/release

# Peaks of memory, rates of error, figures of whole texts and great numbers of things are the release build's: under
# sanitizers they take minutes and say no more than their small siblings.
measures='^(torch_memory_test|converters_memory_test)/|GateTrials|KnownValues|FixtureTest|/PerTensor\.(Little|Effects|Tied)'
measures+='|PartsOfAWindow|SplittingQueries|FullSize|OfMany|Many(Names|Tensors|Keys|Equal|Small)|Million|Thousand|LargeViews|LargestReal|LongHeaders|HeaderBomb'
measures+='|CodesAreOptimal|EveryLengthAndAlphabet|EveryIsaGives|ForAnyThreads|cli/imatrix/helps|cli/usage/on_a_terminal'

say "clang, sanitizers"
configure_and_build "sanitizers" build/asan -C tools/cmake/asan.cmake -DQUERN_WERROR=ON &&
  run_ctests "sanitizer tests" build/asan -E "$measures"

closing_line
