# shellcheck shell=bash
configure_and_build "no oneDNN" build/no_onednn -C tools/cmake/release.cmake -DQUERN_WERROR=ON -DQUERN_ONEDNN=OFF &&
  run_ctests "no oneDNN tests" build/no_onednn -LE interop && same_bytes "no oneDNN" build/no_onednn/quern &&
  same_perplexity "no oneDNN" build/no_onednn/quern
