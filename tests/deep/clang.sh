# shellcheck shell=bash
configure_and_build "clang" build/clang -C tools/cmake/release.cmake -DQUERN_WERROR=ON \
  -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ &&
  run_ctests "clang tests" build/clang -LE interop && same_bytes "clang" build/clang/quern &&
  same_perplexity "clang" build/clang/quern
