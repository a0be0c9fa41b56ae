// What a harness demands of what it tests, in every build.
#pragma once

#include <cstdlib>

namespace quern::fuzz {

// Aborts, which fuzzers count as a finding.
inline void Require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace quern::fuzz
