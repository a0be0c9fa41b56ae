// Products of activations with a tile of weights: oneDNN where quern is built with it, else the
// portable kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "verify/archs.h"
#include "verify/gemm_portable.h"

namespace quern {

// Which product is used. One is chosen per model and kept.
enum class Product : uint8_t {
  kPortable,    // PackedMatrix, f32
  kOneDnnF32,   // oneDNN's f32 product
  kOneDnnBF16,  // oneDNN's product of bf16 operands with f32 sums
};

// Returns the product for `options` and the instruction set in use.
// Throws: Error kUnsupported "compute.bf16" where bf16 is asked for and there is no oneDNN, or the CPU
// (or --isa) has no AVX-512.
Product ChooseProduct(const ForwardOptions& options);

// Returns true if products in bf16 are faster than in f32 on this CPU: it has instructions for them.
bool HasFastBF16();

// Rows of activations in both forms that products read; only the one that the product needs is set.
struct ProductRows {
  const float* f32 = nullptr;
  const uint16_t* bf16 = nullptr;
  size_t stride = 0;  // elements from row to row

  ProductRows From(size_t row) const {
    return {f32 == nullptr ? nullptr : f32 + row * stride,
            bf16 == nullptr ? nullptr : bf16 + row * stride, stride};
  }
};

// Some rows of a weight matrix W [n, k], in the order that the product reads: filled once, multiplied
// with any number of rows. Single-threaded; the memory is used again by the next Fill.
class WeightTile {
 public:
  explicit WeightTile(Product product);
  ~WeightTile();
  WeightTile(WeightTile&&) noexcept;

  // Takes n rows of k floats, contiguous. Requires: n > 0, k > 0.
  void Fill(const float* w, size_t n, size_t k);
  // Writes C [m, n] = A [m, k] W^T, where C's rows are `c_stride` floats apart.
  void Multiply(ProductRows a, size_t m, float* c, size_t c_stride);

  // What the products implement.
  class Kernel;

 private:
  std::unique_ptr<Kernel> kernel_;
};

}  // namespace quern
