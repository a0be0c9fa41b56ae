#include "quant/importance.h"

#include <algorithm>
#include <cmath>

#include "formats/core/error.h"

namespace quern {

const std::vector<float>* ImportanceOf(const Importance& importance, const TensorInfo& tensor) {
  const auto found = importance.entries.find(tensor.name);
  if (found == importance.entries.end()) return nullptr;
  const std::vector<float>& weights = found->second;
  const std::string entry = "entry " + Quoted(tensor.name);
  if (weights.size() != tensor.cols()) {
    throw DataError("imatrix.width", "the importance does not fit the tensor")
        .File(Escaped(importance.file, 4096))
        .Where(entry)
        .Found(std::to_string(weights.size()) + " columns")
        .Expected(std::to_string(tensor.cols()))
        .Hint("the imatrix was made for another model");
  }
  for (size_t i = 0; i < weights.size(); ++i) {
    if (std::isfinite(weights[i]) && weights[i] >= 0) continue;
    throw DataError("imatrix.non-finite", "importance is no finite number of zero or more")
        .File(Escaped(importance.file, 4096))
        .Where(entry + ", column " + std::to_string(i))
        .Found(std::isnan(weights[i]) ? "nan" : std::to_string(weights[i]));
  }
  const bool all_zero = std::ranges::all_of(weights, [](float w) { return w == 0; });
  return all_zero ? nullptr : &weights;
}

}  // namespace quern
