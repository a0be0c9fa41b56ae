// What the kernels of several block types share. Lane-wise code only: no result may depend on the
// number of lanes.

// Per-target include guard.
#if defined(QUERN_QUANT_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QUERN_QUANT_SIMD_INL_H_
#undef QUERN_QUANT_SIMD_INL_H_
#else
#define QUERN_QUANT_SIMD_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// At most sixteen lanes, so that half a block of 32 is a whole number of vectors on every target.
using DFloat = hn::CappedTag<float, 16>;
using DInt = hn::RebindToSigned<DFloat>;
using VFloat = hn::Vec<DFloat>;
using VInt = hn::Vec<DInt>;

}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
