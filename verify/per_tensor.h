// Where a model's divergence arises: the reference with one tensor at a time taken from the model.
#pragma once

#include <string_view>
#include <vector>

#include "verify/perplexity.h"

namespace quern {

// Returns, by falling KL divergence, the effect of every tensor that both have in the same shape
// and that differs. Gates and the baseline of `options` are of no matter. Cost: for a tensor of
// layer l, the layers from l on; the reference's layers before it once for all. Throws: as
// ComparePerplexity; Error kData "per-tensor.none" where no tensor differs.
std::vector<TensorEffect> MeasurePerTensor(const TensorStore& model, const TensorStore& reference,
                                           std::string_view text, const PerplexityOptions& options);

}  // namespace quern
