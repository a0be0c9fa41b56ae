// Products of activations with the matrices of a stored model: each matrix is read and decoded tile
// by tile, once per call, whatever its type; a whole one never exists in f32.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "formats/core/stream.h"
#include "quant/codec.h"
#include "verify/gemm.h"

namespace quern {

// A tensor of a store, ready to be decoded.
struct StoredMatrix {
  size_t tensor = 0;  // index into Manifest::tensors
  uint64_t rows = 0;
  uint64_t cols = 0;
  uint64_t row_bytes = 0;
  const BlockCodec* codec = nullptr;
};

// Activations: one row per token, rows contiguous.
struct Activations {
  const float* data = nullptr;
  uint64_t rows = 0;
  uint64_t cols = 0;
};

// What the threads that multiply work with; kept from call to call. May be shared by Linears of the
// same product that are not used at the same time.
struct LinearWorkspaces;
std::shared_ptr<LinearWorkspaces> MakeWorkspaces(Product product);

// Work runs in the caller's oneTBB arena, one task per tile of matrix rows; tiles and blocks follow
// from the shapes alone, so that the bits do not depend on the number of threads.
class Linear {
 public:
  // Requires: `store` outlives the object; `workspaces` are of the same product, or null.
  Linear(const TensorStore& store, Product product,
         std::shared_ptr<LinearWorkspaces> workspaces = nullptr);

  // Writes the rows [begin, begin + count) of `matrix` to `out`.
  // Throws: as TensorStore::ReadRows.
  void Decode(const StoredMatrix& matrix, uint64_t begin, uint64_t count, float* out) const;
  // Returns the only row of a one-dimensional tensor.
  std::vector<float> DecodeVector(const StoredMatrix& vector) const;

  // y [x.rows, matrix.rows] = x matrix^T.
  // Throws: as TensorStore::ReadRows; so do the next three.
  void Multiply(const StoredMatrix& matrix, Activations x, float* y) const;
  // y += x matrix^T, each product summed before it is added.
  void MultiplyAdd(const StoredMatrix& matrix, Activations x, float* y) const;
  // y = silu(x gate^T) * (x up^T).
  void MultiplySwiGlu(const StoredMatrix& gate, const StoredMatrix& up, Activations x,
                      float* y) const;
  // y [x.rows, count] = x times the rows [begin, begin + count) of `matrix`.
  void MultiplyRows(const StoredMatrix& matrix, uint64_t begin, uint64_t count, Activations x,
                    float* y) const;

  // Returns the bytes that one thread works with on matrices of at most `max_cols` columns.
  static uint64_t WorkspaceBytes(uint64_t max_cols);
  // Returns the bytes that a product keeps per row of activations while it runs.
  uint64_t InputBytes(uint64_t cols) const;

 private:
  // Rows [row, row + n_rows) of x times entries [col, col + n_cols) of the range, for one matrix or
  // two, row by row with a stride of kTileRows floats.
  struct Block {
    uint64_t row, n_rows, col, n_cols;
    float* values[2];
  };
  // Returns `x` as the product reads it; `rounded` holds it where that is another form.
  ProductRows RowsFor(Activations x, std::vector<uint16_t>& rounded) const;
  using Sink = std::function<void(const Block&)>;
  void ForEachBlock(std::span<const StoredMatrix> matrices, uint64_t begin, uint64_t count,
                    Activations x, const Sink& sink) const;

  const TensorStore& store_;
  Product product_;
  std::shared_ptr<LinearWorkspaces> workspaces_;
};

}  // namespace quern
