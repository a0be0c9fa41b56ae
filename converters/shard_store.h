// One file of weights by itself, its tensors as they are, for `check`.
#pragma once

#include <memory>
#include <string>

#include "formats/core/stream.h"

namespace quern {

// Returns a store over the vectors and matrices of floating-point numbers in the file, in its
// order; the manifest has no spec. CRCs are not compared.
// Throws: as OpenWeightFile.
std::unique_ptr<TensorStore> OpenShard(const std::string& path);

}  // namespace quern
