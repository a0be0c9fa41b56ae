// config.json of Hugging Face's folders, and the numbers that follow from it.
// Source: configuration_llama.py of huggingface/transformers, with its defaults.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "converters/rope_scaling.h"

namespace quern {

// How linear layers in 8-bit floats are scaled.
struct HfFloat8 {
  // Rows and columns that share a scale; nothing: the shape of the scales tells (one for all, or
  // one per row).
  std::optional<uint32_t> block_rows, block_cols;
};

struct HfConfig {
  uint32_t hidden_size = 0;
  uint32_t intermediate_size = 0;
  uint32_t n_layers = 0;
  uint32_t n_heads = 0;
  uint32_t n_kv_heads = 0;
  uint32_t head_dim = 0;
  uint32_t vocab_size = 0;
  uint32_t context_length = 0;
  double norm_eps = 0;
  double rope_theta = 0;
  std::optional<double> rope_linear_factor;
  std::optional<RopeFrequencyScaling> rope_frequency_scaling;  // rope_type llama3
  bool tied_embeddings = false;
  std::optional<HfFloat8> float8;
};

// Returns the configuration of a Llama; unknown keys are ignored, and what would change the model
// without being read is refused by name.
// Throws: Error kData "config.value" that names key and value, "json.*"; kUnsupported
// "hf.architecture", "hf.feature", "hf.quantization".
HfConfig ParseHfConfig(std::string_view text, std::string_view file);

// The ids of special tokens in config.json and generation_config.json. Units: token ids.
struct HfTokenIds {
  std::optional<uint32_t> bos, pad;  // of a list the first
  std::vector<uint32_t> eos;         // all at which generation ends
  bool is_copy = false;              // of those in config.json ("_from_model_config")
};
// Throws: Error kData "config.value", "json.*".
HfTokenIds ParseHfTokenIds(std::string_view text, std::string_view file);

}  // namespace quern
