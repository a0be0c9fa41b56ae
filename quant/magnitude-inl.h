// Blocks in which every weight is zero or of one magnitude: constants, single weights, signs.
//
// All that is lost of such a block is what rounding its scales loses, and there a search decides
// nothing. So the scales come from a table of products: of all ways to write the magnitude as a
// storable scale times the integers of the type, the nearest. Lane-wise code; see
// scale_search-inl.h for its rules.

// Per-target include guard.
#if defined(QUERN_QUANT_MAGNITUDE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QUERN_QUANT_MAGNITUDE_INL_H_
#undef QUERN_QUANT_MAGNITUDE_INL_H_
#else
#define QUERN_QUANT_MAGNITUDE_INL_H_
#endif

#include <hwy/highway.h>

#include "quant/scale_search-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {

// Returns the magnitude that all elements have which are not zero, or 0 in lanes where they differ
// or are too small for any scale. Looks at a few elements only, unless some lane is such a block.
HWY_INLINE VFloat CommonMagnitude(const float* HWY_RESTRICT x, size_t elems) {
  const DFloat d;
  constexpr size_t kN = LaneCount();
  const auto zero = hn::Zero(d);
  auto common = hn::Abs(hn::Load(d, x));
  auto is_common = hn::Ge(common, zero);
  for (size_t i = 1; i < elems; ++i) {
    const auto a = hn::Abs(hn::Load(d, x + i * kN));
    const auto both = hn::And(hn::Gt(a, zero), hn::Gt(common, zero));
    is_common = hn::AndNot(hn::And(both, hn::Ne(a, common)), is_common);
    common = hn::Max(common, a);
    if (i % 4 == 3 && hn::AllFalse(d, is_common)) return zero;
  }
  const auto counts = hn::And(is_common, hn::Gt(common, hn::Set(d, kLeastRange)));
  return hn::IfThenElseZero(counts, common);
}

// Sums of importance (or counts) by the sign of the elements.
struct SignSums {
  VFloat minus, zero, plus;
};
template <bool kWeighted>
HWY_NOINLINE SignSums SumsBySign(const SubTile& tile, size_t elems) {
  const DFloat d;
  constexpr size_t kN = LaneCount();
  const auto zero = hn::Zero(d);
  SignSums sums{zero, zero, zero};
  for (size_t i = 0; i < elems; ++i) {
    const auto x = hn::Load(d, tile.x + i * kN);
    const auto w = kWeighted ? hn::Load(d, tile.w + i * kN) : hn::Set(d, 1.0f);
    sums.minus = hn::Add(sums.minus, hn::IfThenElseZero(hn::Lt(x, zero), w));
    sums.zero = hn::Add(sums.zero, hn::IfThenElseZero(hn::Eq(x, zero), w));
    sums.plus = hn::Add(sums.plus, hn::IfThenElseZero(hn::Gt(x, zero), w));
  }
  return sums;
}

// A number as a scale times two integers.
struct Product {
  VFloat scale;  // storable as binary16
  VFloat a, b;   // at least 1
  VFloat value;  // scale * a * b
};

// Returns the product nearest to `target` >= 0 whose integers are a_most and the n_a - 1 below it,
// and 1..b_most; of equally near ones the one of the largest integers. It is 0 where none is
// nearer.
template <class D = DFloat>
HWY_NOINLINE Product NearestProduct(VFloat target, VFloat a_most, size_t n_a, size_t b_most) {
  const D d;
  const auto one = hn::Set(d, 1.0f);
  Product best{hn::Zero(d), one, one, hn::Zero(d)};
  auto least = target;
  for (size_t k = 0; k < n_a; ++k) {
    const auto a = hn::Max(hn::Sub(a_most, hn::Set(d, static_cast<float>(k))), one);
    for (size_t n = b_most; n > 0; --n) {
      const auto b = hn::Set(d, static_cast<float>(n));
      const auto ab = hn::Mul(a, b);
      // Eleven bits times twelve: the product is exact, and so is the difference.
      const auto scale = StorableScale(hn::Div(target, ab));
      const auto value = hn::Mul(scale, ab);
      const auto distance = hn::Abs(hn::Sub(target, value));
      const auto nearer = hn::Lt(distance, least);
      least = hn::IfThenElse(nearer, distance, least);
      best.scale = hn::IfThenElse(nearer, scale, best.scale);
      best.a = hn::IfThenElse(nearer, a, best.a);
      best.b = hn::IfThenElse(nearer, b, best.b);
      best.value = hn::IfThenElse(nearer, value, best.value);
    }
  }
  return best;
}

}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
