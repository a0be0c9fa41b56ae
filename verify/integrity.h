// Are the weights of a model sound? Reads every one of them.
#pragma once

#include <vector>

#include "formats/core/finding.h"
#include "formats/core/stream.h"
#include "verify/row_bands.h"

namespace quern {

using IntegrityOptions = BandOptions;

// Reads all tensors of `store` once and returns a finding for each that holds NaN or infinite values
// (how many, and the first: file, row, column, byte offset), has another hash than the store keeps
// for it (TensorHashes), cannot be read, or is of a type that quern cannot decode (a note). The
// findings stand in the order of the tensors.
// Throws: Error kMemory "memory.budget" if a row does not fit.
std::vector<Finding> CheckWeights(const TensorStore& store, const IntegrityOptions& options);

}  // namespace quern
