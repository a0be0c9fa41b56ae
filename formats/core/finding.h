// A fault found in data under inspection. `check` collects findings where a pass would throw.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/core/error.h"

namespace quern {

struct Finding {
  enum class Severity : uint8_t {
    kNote,     // Worth knowing; nothing is wrong.
    kWarning,  // Suspicious, but the data can be used.
    kError,    // Damage.
  };
  Severity severity = Severity::kError;
  std::string id;    // stable, as Error's ids
  std::string line;  // worded as Error's line: file, what, where, found, expected [id]
  std::string hint;  // may be empty
  // What the line says, for programs.
  ErrorCode code = ErrorCode::kData;  // kUnsupported: nothing is damaged, quern cannot read it
  std::string file, tensor;           // escaped; empty where it is about none
  std::optional<uint64_t> offset;     // in the file, in bytes

  bool operator==(const Finding&) const = default;
};

// Returns `error` as a finding, so that both are worded by the same code.
inline Finding FindingFrom(const Error& error,
                           Finding::Severity severity = Finding::Severity::kError) {
  return {severity,     error.id(),   error.what(),   error.hint(),
          error.code(), error.file(), error.tensor(), error.offset()};
}

}  // namespace quern
