# shellcheck shell=bash
configure_and_build "g++ -O0" build/debug -C tools/cmake/debug.cmake -DQUERN_WERROR=ON -DQUERN_BENCH=OFF &&
  run_ctests "g++ -O0 tests" build/debug -LE interop && same_bytes "g++ -O0" build/debug/quern &&
  same_perplexity "g++ -O0" build/debug/quern
