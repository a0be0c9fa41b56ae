#include "verify/report.h"

namespace quern {

std::string_view NameOf(Protocol protocol) {
  switch (protocol) {
    case Protocol::kLlamaCpp:
      return "llama.cpp";
    case Protocol::kPapers:
      return "papers";
  }
  return "";
}

std::string_view NameOf(Compute compute) {
  switch (compute) {
    case Compute::kF32:
      return "f32";
    case Compute::kBF16:
      return "bf16";
  }
  return "";
}

std::string_view NameOf(Decision decision) {
  switch (decision) {
    case Decision::kPassed:
      return "passed";
    case Decision::kFailed:
      return "failed";
    case Decision::kUndecided:
      return "not decided";
  }
  return "";
}

}  // namespace quern
