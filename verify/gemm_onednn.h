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

// Returns true if oneDNN uses no better instructions than those in use (quant/isa.h). Where they are
// capped to AVX2, so is oneDNN, by the first call and for the whole process; it keeps to no lower cap.
// Defined only where kHaveOneDnn, as the next three.
bool OneDnnKeepsToIsa();
// Returns true if oneDNN multiplies bf16 operands on this CPU.
bool OneDnnHasBF16();
// Returns true if the CPU has instructions for that (AVX512-BF16, AMX), so that it is faster than f32.
bool OneDnnHasFastBF16();
// Returns the kernel for one of the two products of oneDNN.
std::unique_ptr<WeightTile::Kernel> MakeOneDnnKernel(Product product);

}  // namespace quern
