// The products that oneDNN computes.
#pragma once

#include <memory>

#include "verify/gemm_kernel.h"

namespace quern {

#ifdef QUERN_HAVE_ONEDNN
inline constexpr bool kHaveOneDnn = true;
#else
inline constexpr bool kHaveOneDnn = false;
#endif

// Returns the kernel for one of the two products of oneDNN.
// Defined only where kHaveOneDnn.
std::unique_ptr<WeightTile::Kernel> MakeOneDnnKernel(Product product);

}  // namespace quern
