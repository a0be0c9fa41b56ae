// Tensors as quern sees them in motion: a description, and runs of whole rows.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "formats/core/bytes.h"
#include "formats/core/dtype.h"
#include "formats/core/shape.h"

namespace quern {

// What a tensor is for. Set once, by the converter (or by the reader of a GGUF header); nothing
// later parses names. The order is the canonical order of tensors in a file.
enum class TensorRole : uint8_t {
  kTokenEmbedding,  // [vocab_size, d_model]
  kAttnNorm,        // [d_model], per layer
  kAttnQ,           // [n_heads * head_dim, d_model], per layer
  kAttnK,           // [n_kv_heads * head_dim, d_model], per layer
  kAttnV,           // [n_kv_heads * head_dim, d_model], per layer
  kAttnOutput,      // [d_model, n_heads * head_dim], per layer
  kFfnNorm,         // [d_model], per layer
  kFfnGate,         // [d_ff, d_model], per layer
  kFfnUp,           // [d_ff, d_model], per layer
  kFfnDown,         // [d_model, d_ff], per layer
  kOutputNorm,      // [d_model]
  kOutput,          // [vocab_size, d_model]
  kRopeFreqs,       // [head_dim / 2], divisors of the rotation angles
  kOther,           // anything else: carried along, never interpreted
};

struct TensorInfo {
  std::string name;  // the GGUF name, e.g. "blk.3.attn_q.weight"
  TensorRole role = TensorRole::kOther;
  std::optional<uint32_t> layer;  // for per-layer roles
  DType dtype = DType::kF32;
  Shape shape;  // cols() is a multiple of the type's block_elems

  uint64_t rows() const { return shape.rows(); }
  uint64_t cols() const { return shape.cols(); }
  // Units: bytes of one row. Requires: a valid TensorInfo (checked where it was read).
  uint64_t row_bytes() const { return *RowBytes(dtype, cols()); }
  uint64_t size_bytes() const { return rows() * row_bytes(); }
  // Units: bytes from the beginning of the tensor to the block that holds the element.
  uint64_t offset_bytes(uint64_t row, uint64_t col) const {
    const BlockLayout& layout = LayoutOf(dtype);
    return row * row_bytes() + col / layout.block_elems * layout.block_bytes;
  }
  bool operator==(const TensorInfo&) const = default;
};

// A run of whole rows of one tensor, contiguous, in the tensor's own type.
struct TensorBand {
  size_t tensor = 0;  // index into Manifest::tensors
  uint64_t row_begin = 0;
  uint64_t row_count = 0;
  ByteView bytes;  // row_count * row_bytes()
};

}  // namespace quern
