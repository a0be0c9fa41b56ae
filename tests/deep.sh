#!/bin/bash
# deep.sh [STEP...]: what tests/run.sh has no time for. Each step is a file in tests/deep; without names, all of them.
#   clang      clang's release build passes all tests and writes the same bytes as g++'s
#   debug      so does g++ -O0
#   no_onednn  so does a build without oneDNN
#   isas       the release build on older x86-64 processors (qemu-user): tests but the longest, the same bytes
#   aarch64    a cross build on 64-bit ARM (qemu-user): tests but the longest and those that start quern, the same bytes
#   types      what `quern types` says of each preset is what the fixture measures
#   faults     system calls and allocations that fail, kills, full disks
#   report_html  the HTML report in headless Chromium: texts and plots lie where they should, screenshots
# The last line is "N passed, N failed, N skipped"; the exit code is 1 if anything failed.
set -u
cd "$(dirname "$0")/.." || exit 1
tools/install_packages.sh build test deep || exit 1
. tests/steps.sh
. tests/deep/same_bytes.sh

[ $# -gt 0 ] || set -- clang debug no_onednn isas aarch64 types faults report_html
say "reference: g++, release"
configure_and_build "release" build/release -C tools/cmake/release.cmake -DQUERN_WERROR=ON || exit 1
reference_bytes build/release/quern || exit 1

for step in "$@"; do
  say "$step"
  # shellcheck source=/dev/null
  . "tests/deep/$step.sh"
done
closing_line
