// Llama 3.1's frequency scaling (use_scaled_rope), as the divisors that a GGUF stores.
#pragma once

#include <cstdint>
#include <vector>

namespace quern {

// Returns one divisor of the rotation angle per pair of rows of a head: 1 for short wavelengths,
// `factor` for those longer than the original context, a smooth passage between.
// Shape: [head_dim / 2].
// Source: apply_scaling in models/llama3/model.py of meta-llama/llama-models, with its constants.
std::vector<float> RopeDivisors(double theta, uint32_t head_dim, double factor);

}  // namespace quern
