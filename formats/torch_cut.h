// What can still be told of a checkpoint that was cut off: PyTorch writes the description of all
// tensors first, so that its beginning says how long the file must be, and what is missing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "formats/core/file.h"

namespace quern {

struct TorchCut {
  uint64_t expected_bytes = 0;  // of the whole file, at least: without headers and padding
  std::string entry, tensor;    // in which the file ends, or "" where that cannot be told
};

// Returns what the beginning of a checkpoint says of its length, if it is intact and the file is
// shorter than that. Requires nothing of the file.
// Throws: Error kSystem if it cannot be read.
// Cost: as TorchCheckpoint::Open.
std::optional<TorchCut> FindTorchCut(const RandomAccessBytes& bytes);

}  // namespace quern
