// GGUF's names of tensors: what each tensor of a model is called, and back.
// Source: formats/GGUF.md, "Tensors".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "formats/core/tensor.h"

namespace quern {

// Returns the GGUF name of the weight with that role, e.g. "blk.3.attn_q.weight".
// Requires: role is not kOther; `layer` is set exactly for per-layer roles.
std::string TensorName(TensorRole role, std::optional<uint32_t> layer = std::nullopt);

// Returns true for the roles that exist once per layer.
bool IsPerLayer(TensorRole role);

struct TensorRoleAndLayer {
  TensorRole role = TensorRole::kOther;
  std::optional<uint32_t> layer;
  bool operator==(const TensorRoleAndLayer&) const = default;
};
// The inverse of TensorName; kOther for every other name.
TensorRoleAndLayer ParseTensorName(std::string_view name);

}  // namespace quern
