// Output matrices that repeat the token embedding: Llama 3.2 1B and 3B ship both.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "formats/core/bytes.h"
#include "formats/core/tensor.h"

namespace quern {

// Returns true if the last tensor is the output matrix and its bytes equal those of the first, the
// token embedding. `read(tensor, row, count, out)` copies rows of the tensor with that index.
// Throws: as `read`. Cost: reads both matrices up to the first difference.
template <typename Read>
bool OutputIsEmbedding(const std::vector<TensorInfo>& tensors, Read read) {
  const TensorInfo &embedding = tensors.front(), &output = tensors.back();
  if (output.role != TensorRole::kOutput) return false;  // there is none
  if (embedding.dtype != output.dtype || embedding.shape != output.shape) return false;
  const uint64_t row_bytes = output.row_bytes();
  uint64_t rows_at_once = 1;  // a few rows settle it for untied models
  std::vector<uint8_t> left, right;
  for (uint64_t row = 0; row < output.rows();) {
    const uint64_t n = std::min(rows_at_once, output.rows() - row);
    left.resize(n * row_bytes);
    right.resize(n * row_bytes);
    read(size_t{0}, row, n, MutableByteView(left));
    read(tensors.size() - 1, row, n, MutableByteView(right));
    if (left != right) return false;
    row += n;
    rows_at_once = std::clamp<uint64_t>((1u << 20) / row_bytes, 1, rows_at_once * 2);
  }
  return true;
}

}  // namespace quern
