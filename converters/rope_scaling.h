// Llama 3.1's frequency scaling (use_scaled_rope, rope_type llama3), as the divisors that a GGUF
// stores.
#pragma once

#include <cstdint>
#include <vector>

namespace quern {

// Defaults are the constants of Meta's code; Hugging Face's configurations state all four.
struct RopeFrequencyScaling {
  double factor = 8;
  double low_frequency_factor = 1, high_frequency_factor = 4;
  double original_context = 8192;
};

// Returns one divisor of the rotation angle per pair of rows of a head: 1 for short wavelengths,
// `factor` for those longer than the original context, a smooth passage between.
// Shape: [head_dim / 2].
// Source: apply_scaling in models/llama3/model.py of meta-llama/llama-models.
std::vector<float> RopeDivisors(double theta, uint32_t head_dim,
                                const RopeFrequencyScaling& scaling);

}  // namespace quern
