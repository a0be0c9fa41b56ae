// The interface behind WeightTile.
#pragma once

#include <cstddef>

#include "verify/gemm.h"

namespace quern {

class WeightTile::Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void Fill(const float* w, size_t n, size_t k) = 0;
  virtual void Multiply(ProductRows a, size_t m, float* c, size_t c_stride) = 0;
};

}  // namespace quern
