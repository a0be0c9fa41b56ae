// The sixteen values of iq4_nl and iq4_xs, and finding the nearest one, lane by lane.
// Source: quant/BLOCKS.md, "iq4_nl".

// Per-target include guard.
#if defined(QUERN_QUANT_CODEBOOK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QUERN_QUANT_CODEBOOK_INL_H_
#undef QUERN_QUANT_CODEBOOK_INL_H_
#else
#define QUERN_QUANT_CODEBOOK_INL_H_
#endif

#include <hwy/highway.h>

#include <cmath>

#include "quant/magnitude-inl.h"
#include "quant/scale_search-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {

HWY_ALIGN inline constexpr float kCodebook[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                  1,    13,   25,  38,  53,  69,  89,  113};

// The line is cut into sixteen buckets, 14 wide, that begin at -110 + 14 b; the first and the last
// reach to infinity. Each holds at most one of the midpoints between values, this one. (Bucket 14
// holds none; the midpoint after value 14 lies in bucket 15.)
HWY_ALIGN inline constexpr float kMidpoints[16] = {
    -115.5f, -93.5f, -74.0f, -57.0f, -42.0f, -28.5f, -16.0f, -4.5f,
    7.0f,    19.0f,  31.5f,  45.5f,  61.0f,  79.0f,  1e30f,  101.0f};

// Returns table[index]. Requires: indices are 0..15.
HWY_INLINE VFloat Lookup16(const float* HWY_RESTRICT table, VInt index) {
  const DFloat d;
  constexpr size_t kN = LaneCount();
  if constexpr (kN == 16) {
    return hn::TableLookupLanes(hn::Load(d, table), hn::IndicesFromVec(d, index));
  } else if constexpr (kN == 8) {
    const DInt di;
    const auto lanes = hn::IndicesFromVec(d, hn::And(index, hn::Set(di, 7)));
    const auto low = hn::TableLookupLanes(hn::Load(d, table), lanes);
    const auto high = hn::TableLookupLanes(hn::Load(d, table + 8), lanes);
    return hn::IfThenElse(hn::RebindMask(d, hn::Gt(index, hn::Set(di, 7))), high, low);
  } else {
    return hn::GatherIndex(d, table, index);
  }
}

// Returns the index of the codebook value nearest to t; of two, the upper one.
HWY_INLINE VInt NearestIndex(VFloat t) {
  const DFloat d;
  const DInt di;
  // Adding 2^23 rounds to an integer that then lies in the lowest bits. Where a bucket border
  // rounds the other way does not matter: no midpoint is near one.
  const auto place = hn::Add(hn::Mul(t, hn::Set(d, 1.0f / 14.0f)), hn::Set(d, 110.0f / 14.0f - 0.5f));
  const auto inside = hn::Min(hn::Max(place, hn::Zero(d)), hn::Set(d, 15.0f));
  const auto bits = hn::BitCast(di, hn::Add(inside, hn::Set(d, 8388608.0f)));
  const auto bucket = hn::And(bits, hn::Set(di, 15));
  const auto above = hn::RebindMask(di, hn::Ge(t, Lookup16(kMidpoints, bucket)));
  const auto lower = hn::Min(bucket, hn::Set(di, 14));
  return hn::Add(lower, hn::IfThenElseZero(above, hn::Set(di, 1)));
}

// The codebook value (as stored in codes) that a search maps the extreme to.
HWY_ALIGN inline constexpr float kCodebookReaches[] = {-127, -120, -134, 113, -124, -131, 108, 119,
                                                       -112, -116, -138, 103, 123, -105, 96, -129};

// Sums for a scale: over w v^2 and w v x with the codebook values v.
struct CodebookSums {
  VFloat v2, vx;
};

// Adds up the sums of 32 weights for each of kTogether inverse scales.
template <bool kWeighted, size_t kTogether>
HWY_NOINLINE void CodebookSumsAt(const SubTile& tile, const VFloat* HWY_RESTRICT inverse,
                               CodebookSums* HWY_RESTRICT sums) {
  const DFloat d;
  constexpr size_t kN = LaneCount();
  for (size_t k = 0; k < kTogether; ++k) sums[k] = {hn::Zero(d), hn::Zero(d)};
  for (size_t i = 0; i < 32; ++i) {
    const auto x = hn::Load(d, tile.x + i * kN);
    const auto w = kWeighted ? hn::Load(d, tile.w + i * kN) : x;
    for (size_t k = 0; k < kTogether; ++k) {
      const auto v = Lookup16(kCodebook, NearestIndex(hn::Mul(x, inverse[k])));
      const auto wv = kWeighted ? hn::Mul(w, v) : v;
      sums[k].v2 = hn::Add(sums[k].v2, hn::Mul(wv, v));
      sums[k].vx = hn::Add(sums[k].vx, hn::Mul(wv, x));
    }
  }
}

// Returns the real scale of least error among those that map the extreme of 32 weights to each of
// the first `n_reaches` reaches and are then fitted.
template <bool kWeighted>
HWY_NOINLINE VFloat FitCodebook(const SubTile& tile, size_t n_reaches) {
  const DFloat d;
  constexpr size_t kN = LaneCount();
  constexpr size_t kTogether = 2;
  auto most = hn::Load(d, tile.x), least = most;
  for (size_t i = 1; i < 32; ++i) {
    const auto x = hn::Load(d, tile.x + i * kN);
    most = hn::Max(most, x);
    least = hn::Min(least, x);
  }
  const auto extreme = hn::IfThenElse(hn::Gt(most, hn::Neg(least)), most, least);
  const auto inverse_extreme = SafeInverse(extreme);
  auto best_scale = hn::Zero(d), best_gain = hn::Zero(d);
  for (size_t c = 0; c < n_reaches; c += kTogether) {
    VFloat inverse[kTogether];
    CodebookSums sums[kTogether];
    for (size_t k = 0; k < kTogether; ++k) {
      inverse[k] = hn::Mul(inverse_extreme, hn::Set(d, kCodebookReaches[c + k]));
    }
    CodebookSumsAt<kWeighted, kTogether>(tile, inverse, sums);
    for (size_t k = 0; k < kTogether; ++k) {
      const auto scale = SafeRatio(sums[k].vx, sums[k].v2);
      const auto gain = hn::Mul(scale, sums[k].vx);
      const auto better = hn::Gt(gain, best_gain);
      best_scale = hn::IfThenElse(better, scale, best_scale);
      best_gain = hn::IfThenElse(better, gain, best_gain);
    }
  }
  return best_scale;
}

// A scale for weights of one magnitude: storable * code, where the code is from -n_codes to -1.
struct CodebookMagnitude {
  VFloat storable, code;
  VFloat fits;  // 1 in lanes that are such blocks, else 0
};

// Returns the scale for blocks of `n_subs` times 32 weights that are all 0 or `magnitude` with one
// sign. Zeros are nearest to the codebook's value 1, so that they ask for a small scale; 32 that
// are all zero are left to a code of 0.
template <bool kWeighted>
HWY_NOINLINE CodebookMagnitude FitCodebookMagnitude(const float* HWY_RESTRICT x,
                                                    const float* HWY_RESTRICT w, size_t n_subs,
                                                    size_t n_codes, VFloat magnitude) {
  const DFloat d;
  const auto zero = hn::Zero(d);
  auto zeros = zero, pluses = zero, minuses = zero;
  for (size_t s = 0; s < n_subs; ++s) {
    const size_t at = s * 32 * LaneCount();
    const SignSums sums = SumsBySign<kWeighted>({x + at, w + (kWeighted ? at : 0)}, 32);
    const auto others = hn::Add(sums.minus, sums.plus);
    zeros = hn::Add(zeros, hn::IfThenElseZero(hn::Gt(others, zero), sums.zero));
    pluses = hn::Add(pluses, sums.plus);
    minuses = hn::Add(minuses, sums.minus);
  }
  const auto others = hn::Add(pluses, minuses);
  const auto one = hn::Set(d, 1.0f);
  CodebookMagnitude best{zero, hn::Neg(one), zero};
  auto least = hn::Mul(others, hn::Mul(magnitude, magnitude));
  for (const float v : kCodebook) {
    const auto value = hn::Set(d, std::fabs(v));
    const auto squares = hn::Add(hn::Mul(others, hn::Mul(value, value)), zeros);
    const auto target = SafeRatio(hn::Mul(hn::Mul(others, value), magnitude), squares);
    const Product p = NearestProduct(target, hn::Set(d, static_cast<float>(n_codes)), n_codes, 1);
    const auto missed = hn::Sub(magnitude, hn::Mul(value, p.value));
    const auto error = hn::Add(hn::Mul(others, hn::Mul(missed, missed)),
                               hn::Mul(zeros, hn::Mul(p.value, p.value)));
    const auto better = hn::Lt(error, least);
    least = hn::IfThenElse(better, error, least);
    const auto negative = hn::Xor(hn::Lt(pluses, minuses), hn::Lt(hn::Set(d, v), zero));
    const auto storable = hn::IfThenElse(negative, p.scale, hn::Neg(p.scale));
    best.storable = hn::IfThenElse(better, storable, best.storable);
    best.code = hn::IfThenElse(better, hn::Neg(p.a), best.code);
  }
  const auto has_both = hn::Gt(hn::Min(pluses, minuses), zero);
  best.fits = hn::IfThenElseZero(hn::AndNot(has_both, hn::Gt(magnitude, zero)), one);
  return best;
}

}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
