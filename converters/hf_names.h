// Hugging Face's tensor names for Llama, and what they mean.
// Source: modeling_llama.py of huggingface/transformers (LlamaForCausalLM).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "formats/core/tensor.h"

namespace quern {

struct HfTensorKind {
  TensorRole role;
  std::string_view name;  // within its layer for per-layer roles: "self_attn.q_proj.weight"
  bool per_layer;
  // Rows of each head are stored with its first halves of pairs before the second ones, for a
  // rotation of halves; GGUF and Meta keep pairs side by side.
  bool rows_are_halves;
};

// Returns the table, in quern's canonical order.
std::span<const HfTensorKind> AllHfTensors();

// Returns the full name, e.g. "model.layers.3.self_attn.q_proj.weight".
std::string HfTensorName(const HfTensorKind& kind, uint32_t layer);

// Returns true for tensors that the weights do not depend on: the tables of rotation angles, scales of
// activations and of the cache.
bool IsIgnoredHfTensor(std::string_view name);

// Returns why a tensor of this name belongs to something quern does not read ("a bias of …"), or
// "".
std::string_view UnsupportedHfTensor(std::string_view name);

}  // namespace quern
