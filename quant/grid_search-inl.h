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

#include <span>

#include "quant/magnitude-inl.h"
#include "quant/scale_search-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {

// What codes and scales a type can hold.
struct GridRange {
  float least_code, most_code;
  float least_scale, most_scale;
};

// A value of the super-block's number, and the sub-blocks' scales to try with it.
struct GridTrial {
  // The largest magnitude of the super-block is code `top` times the largest scale.
  float top;
  // The first candidate maps a sub-block's extreme to minus `reach`; later ones use larger scales.
  float reach;
  size_t n_candidates;
  // The same with the extreme mapped to plus `opposite_reach`.
  float opposite_reach = 1;
  size_t n_opposite = 0;
};

// How hard to search.
struct GridEffort {
  std::span<const GridTrial> trials;  // of several that are as good the first counts
  size_t n_rounds;                    // of trying the neighbours of all scales and fitting again
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
  VFloat scale, error;
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

// Tries kTogether integer scales: first, first + step, …
template <bool kWeighted, size_t kTogether>
HWY_NOINLINE void TryScalesTogether(const SubTile& tile, const GridRange& range, VFloat super,
                                    VFloat first, VFloat step, GridFit& best) {
  const DFloat d;
  constexpr size_t kN = LaneCount();
  const auto least_code = hn::Set(d, range.least_code);
  const auto most_code = hn::Set(d, range.most_code);
  VFloat code[kTogether], scale[kTogether], inverse[kTogether], error[kTogether];
  for (size_t k = 0; k < kTogether; ++k) {
    const auto wanted = hn::Add(first, hn::Mul(step, hn::Set(d, static_cast<float>(k))));
    code[k] = hn::Min(hn::Max(wanted, hn::Set(d, range.least_scale)), hn::Set(d, range.most_scale));
    scale[k] = hn::Mul(super, code[k]);
    inverse[k] = SafeInverse(scale[k]);
    error[k] = hn::Zero(d);
  }
  for (size_t i = 0; i < kGridSubElems; ++i) {
    const auto x = hn::Load(d, tile.x + i * kN);
    const auto w = kWeighted ? hn::Load(d, tile.w + i * kN) : x;
    for (size_t k = 0; k < kTogether; ++k) {
      // In units of the scale.
      const auto t = hn::Mul(x, inverse[k]);
      const auto rest = hn::Sub(t, Rounded(hn::Min(hn::Max(t, least_code), most_code)));
      const auto square = hn::Mul(rest, rest);
      error[k] = hn::Add(error[k], kWeighted ? hn::Mul(w, square) : square);
    }
  }
  for (size_t k = 0; k < kTogether; ++k) {
    const auto scaled = hn::Mul(error[k], hn::Mul(scale[k], scale[k]));
    // A scale of 0 tells nothing.
    const auto better = hn::And(hn::Lt(scaled, best.error), hn::Ne(inverse[k], hn::Zero(d)));
    best.scale = hn::IfThenElse(better, code[k], best.scale);
    best.error = hn::IfThenElse(better, scaled, best.error);
  }
}

// Tries the n integer scales first, first + step, … and keeps the best.
// Requires: n is 1 or a multiple of 4.
template <bool kWeighted>
HWY_INLINE void TryScales(const SubTile& tile, const GridRange& range, VFloat super, VFloat first,
                          VFloat step, size_t n, GridFit& best) {
  const auto at = [&](size_t c) HWY_ATTR {
    return hn::Add(first, hn::Mul(step, hn::Set(DFloat(), static_cast<float>(c))));
  };
  if (n == 1) return TryScalesTogether<kWeighted, 1>(tile, range, super, first, step, best);
  for (size_t c = 0; c < n; c += kGridTogether) {
    TryScalesTogether<kWeighted, kGridTogether>(tile, range, super, at(c), step, best);
  }
}

// Returns the error of a sub-block of zeros only.
template <bool kWeighted>
HWY_INLINE VFloat SquaresOf(const SubTile& tile) {
  const DFloat d;
  auto sum = hn::Zero(d);
  for (size_t i = 0; i < kGridSubElems; ++i) {
    const auto x = hn::Load(d, tile.x + i * LaneCount());
    const auto square = hn::Mul(x, x);
    const auto w = kWeighted ? hn::Load(d, tile.w + i * LaneCount()) : x;
    sum = hn::Add(sum, kWeighted ? hn::Mul(w, square) : square);
  }
  return sum;
}

// Fits d to the codes, and keeps it where the error falls. Returns the error.
template <bool kWeighted>
HWY_NOINLINE VFloat RefitGrid(const float* HWY_RESTRICT x, const float* HWY_RESTRICT w,
                              const GridRange& range, const GridFit* HWY_RESTRICT fits,
                              GridSuper& super) {
  const DFloat d;
  constexpr size_t kN = LaneCount();
  const auto zero = hn::Zero(d);
  auto error = zero, l2 = zero, rest_l = zero;
  for (size_t s = 0; s < kGridSubs; ++s) {
    const auto scale = fits[s].scale;
    super.scales[s] = scale;
    error = hn::Add(error, fits[s].error);
    const auto inverse = SafeInverse(hn::Mul(super.d, scale));
    auto sub_l2 = zero, sub_rest_l = zero;
    for (size_t i = s * kGridSubElems; i < (s + 1) * kGridSubElems; ++i) {
      const auto t = hn::Mul(hn::Load(d, x + i * kN), inverse);
      const auto l = RoundedCode(t, range.least_code, range.most_code);
      const auto wl = kWeighted ? hn::Mul(hn::Load(d, w + i * kN), l) : l;
      sub_l2 = hn::Add(sub_l2, hn::Mul(wl, l));
      sub_rest_l = hn::Add(sub_rest_l, hn::Mul(wl, hn::Sub(t, l)));
    }
    const auto square = hn::Mul(scale, scale);
    l2 = hn::Add(l2, hn::Mul(square, sub_l2));
    rest_l = hn::Add(rest_l, hn::Mul(square, sub_rest_l));
  }
  // The error is least at d + step, and falls to there and beyond as a parabola does.
  const auto step = hn::Mul(super.d, SafeRatio(rest_l, l2));
  const auto refit = StorableScale(hn::Add(super.d, step));
  const auto taken = hn::Sub(refit, super.d);
  const auto change = hn::Mul(hn::Mul(l2, taken), hn::Sub(taken, hn::Add(step, step)));
  const auto better = hn::Lt(change, zero);
  super.d = hn::IfThenElse(better, refit, super.d);
  return hn::Max(hn::IfThenElse(better, hn::Add(error, change), error), zero);
}

// Super-blocks whose weights are all 0 or `magnitude`: sets the scales. The magnitude gets the
// largest code or the one below it. Where all have one sign that is the least code, and the sign is
// in d, since the least scale reaches further than the largest.
HWY_INLINE void FitGridMagnitude(const float* HWY_RESTRICT x, const GridRange& range,
                                 VFloat magnitude, GridSuper& best) {
  const DFloat d;
  const auto zero = hn::Zero(d);
  auto most = zero, least = zero;
  for (size_t i = 0; i < kGridSubs * kGridSubElems; ++i) {
    const auto v = hn::Load(d, x + i * LaneCount());
    most = hn::Max(most, v);
    least = hn::Min(least, v);
  }
  const auto has_both = hn::And(hn::Gt(most, zero), hn::Lt(least, zero));
  const auto most_code =
      hn::IfThenElse(has_both, hn::Set(d, range.most_code), hn::Set(d, -range.least_code));
  const Product product =
      NearestProduct(magnitude, most_code, static_cast<size_t>(-range.least_code),
                     static_cast<size_t>(-range.least_scale));
  const auto fits = hn::Gt(magnitude, zero);
  const auto signed_scale = hn::CopySign(product.scale, hn::Add(most, least));
  best.d = hn::IfThenElse(fits, signed_scale, best.d);
  for (VFloat& scale : best.scales) scale = hn::IfThenElse(fits, hn::Neg(product.b), scale);
}

// Finds the scales of LaneCount() super-blocks whose weights lie in tile `x` (importance in `w`),
// and replaces the weights by their codes.
template <bool kWeighted>
HWY_NOINLINE void SearchGrid(float* HWY_RESTRICT x, const float* HWY_RESTRICT w,
                             const GridRange& range, const GridEffort& effort, GridSuper& best) {
  const DFloat d;
  constexpr size_t kN = LaneCount();
  const auto zero = hn::Zero(d);
  const auto tile_of = [&](size_t s) HWY_ATTR {
    const size_t at = s * kGridSubElems * kN;
    return SubTile{x + at, w + (kWeighted ? at : 0)};
  };
  VFloat extremes[kGridSubs], squares[kGridSubs];
  auto largest = zero, best_error = hn::Set(d, hwy::HighestValue<float>());
  for (size_t s = 0; s < kGridSubs; ++s) {
    extremes[s] = SubExtreme(tile_of(s).x);
    squares[s] = SquaresOf<kWeighted>(tile_of(s));
    largest = hn::Max(largest, hn::Abs(extremes[s]));
  }
  GridFit fits[kGridSubs];
  // Returns false if no lane has become better.
  const auto keep_better = [&](VFloat super) HWY_ATTR {
    GridSuper refit{super, {}};
    const auto error = RefitGrid<kWeighted>(x, w, range, fits, refit);
    const auto better = hn::Lt(error, best_error);
    best_error = hn::IfThenElse(better, error, best_error);
    best.d = hn::IfThenElse(better, refit.d, best.d);
    for (size_t s = 0; s < kGridSubs; ++s) {
      best.scales[s] = hn::IfThenElse(better, refit.scales[s], best.scales[s]);
    }
    return !hn::AllFalse(d, better);
  };
  best.d = zero;
  for (VFloat& scale : best.scales) scale = zero;
  for (const GridTrial& trial : effort.trials) {
    const float steps = trial.top * range.most_scale;
    const auto super = StorableScale(hn::Mul(largest, hn::Set(d, 1.0f / steps)));
    const auto inverse = SafeInverse(super);
    for (size_t s = 0; s < kGridSubs; ++s) {
      const auto extreme = hn::Mul(extremes[s], inverse);
      const auto sign = hn::CopySign(hn::Set(d, 1.0f), extreme);
      fits[s] = {zero, squares[s]};
      const auto first = Rounded(hn::Mul(extreme, hn::Set(d, -1.0f / trial.reach)));
      TryScales<kWeighted>(tile_of(s), range, super, first, hn::Neg(sign), trial.n_candidates,
                           fits[s]);
      if (trial.n_opposite == 0) continue;
      const auto opposite = Rounded(hn::Mul(extreme, hn::Set(d, 1.0f / trial.opposite_reach)));
      TryScales<kWeighted>(tile_of(s), range, super, opposite, sign, trial.n_opposite, fits[s]);
    }
    (void)keep_better(super);
  }
  for (size_t round = 0; round < effort.n_rounds; ++round) {
    const auto super = best.d;
    const auto one = hn::Set(d, 1.0f);
    for (size_t s = 0; s < kGridSubs; ++s) {
      fits[s] = {zero, squares[s]};
      TryScales<kWeighted>(tile_of(s), range, super, hn::Sub(best.scales[s], one), one, 4, fits[s]);
    }
    if (!keep_better(super)) break;
  }
  const auto magnitude = CommonMagnitude(x, kGridSubs * kGridSubElems);
  if (!hn::AllFalse(d, hn::Gt(magnitude, zero))) FitGridMagnitude(x, range, magnitude, best);
  for (size_t s = 0; s < kGridSubs; ++s) {
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
