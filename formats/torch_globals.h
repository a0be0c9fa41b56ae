// The names that a checkpoint's pickle may use, and what they mean. Everything else is refused.
// Source: torch/_weights_only_unpickler.py, torch/_utils.py, torch/storage.py.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "formats/core/dtype.h"
#include "formats/pickle.h"

namespace quern {

// PickleGlobal::tag of the table.
enum class TorchSymbol : uint8_t {
  kOther,        // allowed, and of no meaning for weights
  kStorage,      // a storage class; PickleGlobal::detail is its element
  kDType,        // a dtype; PickleGlobal::detail is its element
  kRebuild,      // _rebuild_tensor(storage, offset, size, stride)
  kRebuildV2,    // the same with requires_grad, hooks [, metadata]
  kRebuildV3,    // the same with requires_grad, hooks, dtype [, metadata]
  kParameter,    // _rebuild_parameter(tensor, …)
  kFromType,     // _rebuild_from_type_v2(function, type, arguments, state)
  kUnsupported,  // a tensor of a kind that is no plain array
  kSize,         // torch.Size((…))
};

// An element type of PyTorch.
struct TorchElement {
  std::string_view name;       // "float16"
  uint32_t bytes = 0;          // 0 for types that are no plain numbers
  std::optional<DType> dtype;  // nothing where quern has no such type
};

std::span<const PickleGlobal> AllowedTorchGlobals();
inline TorchSymbol SymbolOf(const PickleGlobal& global) {
  return static_cast<TorchSymbol>(global.tag);
}
// Requires: SymbolOf(global) is kStorage or kDType.
const TorchElement& ElementOf(const PickleGlobal& global);

}  // namespace quern
