// The numbers that define a model's graph. No default may hide absence: a reader that lacks a value
// throws, or fills it by a rule that it documents.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace quern {

struct ModelSpec {
  std::string arch;  // "llama"
  uint32_t n_layers = 0;
  uint32_t n_heads = 0;
  uint32_t n_kv_heads = 0;
  uint32_t head_dim = 0;
  uint32_t d_model = 0;
  uint32_t d_ff = 0;
  uint32_t vocab_size = 0;
  uint32_t context_length = 0;
  float norm_eps = 0;
  float rope_theta = 0;
  // Linear position scaling: positions are divided by this factor. (Llama 3.1's frequency scaling
  // is no number here but the tensor with role kRopeFreqs.)
  std::optional<float> rope_linear_factor;
  // True if there is no output matrix and the token embedding serves as one.
  bool tied_embeddings = false;

  bool operator==(const ModelSpec&) const = default;
};

}  // namespace quern
