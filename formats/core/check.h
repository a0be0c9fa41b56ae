// Assertions about quern itself (never about input): a failed one is a bug and throws Error kBug.
#pragma once

#include "formats/core/error.h"

namespace quern {

[[noreturn]] inline void CheckFailed(const char* condition, const char* file, int line) {
  throw Error(ErrorCode::kBug, "bug.check", std::string("internal check failed: ") + condition)
      .Where(std::string(file) + ":" + std::to_string(line))
      .Hint("this is a defect of quern; please report it with the command line");
}

}  // namespace quern

#define QUERN_CHECK(condition) \
  ((condition) ? void(0) : ::quern::CheckFailed(#condition, __FILE__, __LINE__))
