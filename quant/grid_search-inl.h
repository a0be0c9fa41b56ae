// The encoder of q3_k and q6_k: 256 weights in sixteen sub-blocks, each with a small signed integer
// scale; one binary16 number scales those.
//
// The super-block's number is fixed first. Then only scales that can be stored are tried, each by
// its true error: every one gives a fresh set of rounding errors, and the best of several is worth
// more than the best real scale that is rounded afterwards.

// Per-target include guard.
#if defined(QUERN_QUANT_GRID_SEARCH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QUERN_QUANT_GRID_SEARCH_INL_H_
#undef QUERN_QUANT_GRID_SEARCH_INL_H_
#else
#define QUERN_QUANT_GRID_SEARCH_INL_H_
#endif

#include <hwy/highway.h>

#include "quant/scale_search-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {

// What codes and scales a type can hold.
struct GridRange {
  float least_code, most_code;
  float least_scale, most_scale;
};

// How hard to search.
struct GridEffort {
  // The largest magnitude of the super-block is code `top` times the largest scale.
  float top;
  // The first candidate maps a sub-block's extreme to minus `reach`; later ones use larger scales.
  float reach;
  size_t n_candidates;
  // The same with the extreme mapped to plus `opposite_reach`.
  float opposite_reach;
  size_t n_opposite;
};

inline constexpr size_t kGridSubs = 16, kGridSubElems = 16;

// As many candidates at once as the registers hold.
inline constexpr size_t kGridTogether = LaneCount() == 16 ? 4 : 2;

// One super-block per lane.
struct GridSuper {
  VFloat d;                  // storable as binary16
  VFloat scales[kGridSubs];  // integers
};

// The best scale of a sub-block so far.
struct GridFit {
  VFloat scale, error, l2, xl;
};

// Returns the element of largest magnitude.
HWY_INLINE VFloat SubExtreme(const float* HWY_RESTRICT x) {
  const DFloat d;
  auto most = hn::Load(d, x);
  auto least = most;
  for (size_t i = 1; i < kGridSubElems; ++i) {
    const auto v = hn::Load(d, x + i * LaneCount());
    most = hn::Max(most, v);
    least = hn::Min(least, v);
  }
  return hn::IfThenElse(hn::Gt(most, hn::Neg(least)), most, least);
}

// Tries the integer scales first, first + step, … and keeps the best.
template <bool kWeighted, size_t kTogether>
HWY_NOINLINE void TryScales(const SubTile& tile, const GridRange& range, VFloat super, VFloat first,
                          VFloat step, size_t n, GridFit& best) {
  const DFloat d;
  constexpr size_t kN = LaneCount();
  const auto least_code = hn::Set(d, range.least_code);
  const auto most_code = hn::Set(d, range.most_code);
  for (size_t c = 0; c < n; c += kTogether) {
    VFloat code[kTogether], scale[kTogether], inverse[kTogether], l2[kTogether], xl[kTogether];
    for (size_t k = 0; k < kTogether; ++k) {
      const auto steps = hn::Set(d, static_cast<float>(c + k));
      const auto wanted = hn::Add(first, hn::Mul(step, steps));
      code[k] = hn::Min(hn::Max(wanted, hn::Set(d, range.least_scale)),
                        hn::Set(d, range.most_scale));
      scale[k] = hn::Mul(super, code[k]);
      inverse[k] = SafeInverse(scale[k]);
      l2[k] = hn::Zero(d);
      xl[k] = hn::Zero(d);
    }
    for (size_t i = 0; i < kGridSubElems; ++i) {
      const auto x = hn::Load(d, tile.x + i * kN);
      const auto w = kWeighted ? hn::Load(d, tile.w + i * kN) : x;
      for (size_t k = 0; k < kTogether; ++k) {
        const auto t = hn::Mul(x, inverse[k]);
        const auto l = Rounded(hn::Min(hn::Max(t, least_code), most_code));
        const auto wl = kWeighted ? hn::Mul(w, l) : l;
        l2[k] = hn::Add(l2[k], hn::Mul(wl, l));
        xl[k] = hn::Add(xl[k], hn::Mul(wl, x));
      }
    }
    for (size_t k = 0; k < kTogether; ++k) {
      const auto error = hn::Mul(
          scale[k], hn::Sub(hn::Mul(scale[k], l2[k]), hn::Mul(hn::Set(d, 2.0f), xl[k])));
      const auto better = hn::Lt(error, best.error);
      best.scale = hn::IfThenElse(better, code[k], best.scale);
      best.error = hn::IfThenElse(better, error, best.error);
      best.l2 = hn::IfThenElse(better, l2[k], best.l2);
      best.xl = hn::IfThenElse(better, xl[k], best.xl);
    }
  }
}

// Fits d to the codes, and keeps it where the error falls. Returns the error.
HWY_INLINE VFloat RefitGrid(const GridFit* HWY_RESTRICT fits, GridSuper& super) {
  const DFloat d;
  auto error = hn::Zero(d), xl = hn::Zero(d), l2 = hn::Zero(d);
  for (size_t s = 0; s < kGridSubs; ++s) {
    const auto scale = fits[s].scale;
    super.scales[s] = scale;
    error = hn::Add(error, fits[s].error);
    xl = hn::Add(xl, hn::Mul(scale, fits[s].xl));
    l2 = hn::Add(l2, hn::Mul(hn::Mul(scale, scale), fits[s].l2));
  }
  const auto refit = StorableScale(hn::Max(SafeRatio(xl, l2), hn::Zero(d)));
  const auto two = hn::Set(d, 2.0f);
  const auto refit_error = hn::Mul(refit, hn::Sub(hn::Mul(refit, l2), hn::Mul(two, xl)));
  const auto better = hn::Lt(refit_error, error);
  super.d = hn::IfThenElse(better, refit, super.d);
  return hn::IfThenElse(better, refit_error, error);
}

// Finds the scales of LaneCount() super-blocks whose weights lie in tile `x` (importance in `w`),
// and replaces the weights by their codes.
template <bool kWeighted>
HWY_NOINLINE void SearchGrid(float* HWY_RESTRICT x, const float* HWY_RESTRICT w,
                           const GridRange& range, const GridEffort& effort, GridSuper& best) {
  const DFloat d;
  constexpr size_t kN = LaneCount();
  const auto zero = hn::Zero(d);
  VFloat extremes[kGridSubs];
  auto largest = zero;
  for (size_t s = 0; s < kGridSubs; ++s) {
    extremes[s] = SubExtreme(x + s * kGridSubElems * kN);
    largest = hn::Max(largest, hn::Abs(extremes[s]));
  }
  best.d = StorableScale(hn::Mul(largest, hn::Set(d, 1.0f / (effort.top * range.most_scale))));
  // The plain solution: the extremes map to the least code, the largest one with the least scale.
  // Both are powers of two, so that a single weight is kept as exactly as binary16 can.
  GridSuper plain;
  const float plain_steps = range.least_code * range.least_scale;
  plain.d = StorableScale(hn::Mul(largest, hn::Set(d, 1.0f / plain_steps)));
  const auto inverse_d = SafeInverse(best.d);
  const auto inverse_plain = SafeInverse(plain.d);
  GridFit fits[kGridSubs], plain_fits[kGridSubs];
  for (size_t s = 0; s < kGridSubs; ++s) {
    const size_t at = s * kGridSubElems * kN;
    const SubTile tile{x + at, w + (kWeighted ? at : 0)};
    const auto extreme = hn::Mul(extremes[s], inverse_d);
    const auto sign = hn::CopySign(hn::Set(d, 1.0f), extreme);
    fits[s] = {zero, zero, zero, zero};
    const auto first = Rounded(hn::Mul(extreme, hn::Set(d, -1.0f / effort.reach)));
    TryScales<kWeighted, kGridTogether>(tile, range, best.d, first, hn::Neg(sign),
                                        effort.n_candidates, fits[s]);
    if (effort.n_opposite != 0) {
      const auto opposite = Rounded(hn::Mul(extreme, hn::Set(d, 1.0f / effort.opposite_reach)));
      TryScales<kWeighted, kGridTogether>(tile, range, best.d, opposite, sign, effort.n_opposite,
                                          fits[s]);
    }
    plain_fits[s] = {zero, zero, zero, zero};
    const auto plain_scale =
        hn::Mul(hn::Mul(extremes[s], inverse_plain), hn::Set(d, 1.0f / range.least_code));
    TryScales<kWeighted, 1>(tile, range, plain.d, Rounded(plain_scale), zero, 1, plain_fits[s]);
  }
  const auto error = RefitGrid(fits, best);
  const auto plain_error = RefitGrid(plain_fits, plain);
  // Errors are relative to the sum of w x^2, and so not positive.
  const auto use_plain = hn::Ge(error, hn::Mul(plain_error, hn::Set(d, 1.0f + kLeastGain)));
  best.d = hn::IfThenElse(use_plain, plain.d, best.d);
  for (size_t s = 0; s < kGridSubs; ++s) {
    best.scales[s] = hn::IfThenElse(use_plain, plain.scales[s], best.scales[s]);
    const auto inverse = SafeInverse(hn::Mul(best.d, best.scales[s]));
    for (size_t i = s * kGridSubElems; i < (s + 1) * kGridSubElems; ++i) {
      const auto t = hn::Mul(hn::Load(d, x + i * kN), inverse);
      hn::Store(RoundedCode(t, range.least_code, range.most_code), d, x + i * kN);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
