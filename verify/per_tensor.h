// Where a model's divergence arises: the reference with one tensor at a time taken from the model.
#pragma once

#include <memory>
#include <string_view>

#include "verify/perplexity.h"

namespace quern {

// The effect of every tensor that both have in the same shape and that differs. Gates and the
// baseline of the options are of no matter: all windows are evaluated.
class PerTensor {
 public:
  // Finds the tensors and what memory holds of the windows. Cost: reads both models once.
  // Throws: as ComparePerplexity. Requires: both models outlive the object.
  PerTensor(const TensorStore& model, const TensorStore& reference, std::string_view text,
            const PerplexityOptions& options);
  ~PerTensor();

  // Returns the effects by falling KL divergence; none where no tensor differs. To be called once.
  // Cost: for a tensor of layer l, the layers from l on; the reference's layers before it once for
  // all. Throws: as ComparePerplexity.
  PerTensorReport Measure();

 private:
  class Run;
  std::unique_ptr<Run> run_;
};

}  // namespace quern
