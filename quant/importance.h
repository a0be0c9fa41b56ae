// Importance of the columns of each tensor: by how much the squared error of a column counts.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "formats/core/manifest.h"

namespace quern {

struct Importance {
  std::string file;  // where it comes from, for messages
  // Weights per column, by tensor name (mean squares of activations).
  std::map<std::string, std::vector<float>, std::less<>> entries;
};

// Returns the importance of the columns of `tensor`, or null where there is none: no entry, or one
// of zeros only.
// Throws: Error kData "imatrix.width" if the entry has another number of columns, or
// "imatrix.non-finite" for a NaN, an infinity or a negative number in it.
const std::vector<float>* ImportanceOf(const Importance& importance, const TensorInfo& tensor);

}  // namespace quern
