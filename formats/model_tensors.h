// The tensors that a Llama has, by the numbers of its graph.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "formats/core/finding.h"
#include "formats/core/manifest.h"
#include "formats/core/model_spec.h"
#include "formats/core/tensor.h"

namespace quern {

// Returns the shape of the tensor with that role; that of a scalar where it would be impossibly
// large. Requires: role is not kOther.
Shape ShapeOfRole(const ModelSpec& spec, TensorRole role);

// Returns what keeps the model from being whole: keys and tensors that are missing, tensors of wrong
// shape, tokens that are there twice or are not as many as the embedding has rows; and as remarks
// what other programs would not compute as quern does. Nothing about files of other architectures.
std::vector<Finding> CheckModelTensors(const Manifest& manifest, std::string_view file);

}  // namespace quern
