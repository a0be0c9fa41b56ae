// The encoder of q2_k, q4_k and q5_k: 256 weights in sub-blocks, each with a small integer scale and
// minimum; two binary16 numbers scale those.
//
// First every sub-block gets its best real scale and minimum (FitAffine). Then the super-block's
// two numbers and the integers are chosen by the true error, which follows from the sums of the
// sub-blocks without another look at the weights.

// Per-target include guard.
#if defined(QUERN_QUANT_AFFINE_SUPER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QUERN_QUANT_AFFINE_SUPER_INL_H_
#undef QUERN_QUANT_AFFINE_SUPER_INL_H_
#else
#define QUERN_QUANT_AFFINE_SUPER_INL_H_
#endif

#include <hwy/highway.h>

#include "quant/scale_search-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {

// How hard to search.
struct AffineEffort {
  const Cut* cuts;       // tried per sub-block
  size_t n_cuts;
  size_t n_refinements;  // of the best cut
  size_t n_trials;       // values of either super-block number on each side of the first
  size_t n_rounds;       // of rounding codes again with the stored scales, and choosing again
};

// One super-block per lane.
template <size_t kSubs>
struct AffineSuper {
  VFloat sw[kSubs], sx[kSubs];
  CodeSums sums[kSubs];
  VFloat scale[kSubs];              // of the sub-blocks, real numbers
  VFloat d, dmin;                   // storable as binary16
  VFloat codes[kSubs], mins[kSubs];  // integers: scales are d * codes, minima dmin * mins
  VFloat error;                     // the sum of AffineError with all these
};

// Chooses the integers for given d and dmin, and keeps the whole in `best` where its error is less.
// The minimum's integer is chosen given the scale as it will be stored.
template <size_t kSubs, int kMostScale>
HWY_NOINLINE void KeepBetterScales(VFloat d_new, VFloat dmin_new, AffineSuper<kSubs>& best) {
  const DFloat d;
  const auto inverse_d = SafeInverse(d_new);
  const auto inverse_dmin = SafeInverse(dmin_new);
  VFloat codes[kSubs], mins[kSubs];
  auto total = hn::Zero(d);
  for (size_t s = 0; s < kSubs; ++s) {
    const auto nearest = RoundedCode(hn::Mul(best.scale[s], inverse_d), 0.0f, kMostScale);
    auto least = hn::Zero(d);
    for (const float step : {0.0f, -1.0f, 1.0f}) {
      const auto code = RoundedCode(hn::Add(nearest, hn::Set(d, step)), 0.0f, kMostScale);
      const auto scale = hn::Mul(d_new, code);
      const auto ideal_min =
          SafeRatio(hn::Sub(hn::Mul(scale, best.sums[s].l), best.sx[s]), best.sw[s]);
      const auto min_code = RoundedCode(hn::Mul(ideal_min, inverse_dmin), 0.0f, kMostScale);
      const auto error = AffineError(scale, hn::Mul(dmin_new, min_code), best.sums[s], best.sw[s],
                                     best.sx[s]);
      if (step == 0.0f) {
        codes[s] = code;
        mins[s] = min_code;
        least = error;
        continue;
      }
      const auto better = hn::Lt(error, least);
      codes[s] = hn::IfThenElse(better, code, codes[s]);
      mins[s] = hn::IfThenElse(better, min_code, mins[s]);
      least = hn::IfThenElse(better, error, least);
    }
    total = hn::Add(total, least);
  }
  const auto better = hn::Lt(total, best.error);
  best.d = hn::IfThenElse(better, d_new, best.d);
  best.dmin = hn::IfThenElse(better, dmin_new, best.dmin);
  best.error = hn::IfThenElse(better, total, best.error);
  for (size_t s = 0; s < kSubs; ++s) {
    best.codes[s] = hn::IfThenElse(better, codes[s], best.codes[s]);
    best.mins[s] = hn::IfThenElse(better, mins[s], best.mins[s]);
  }
}

// Fits d and dmin to the integers by least squares, and keeps them where the error falls.
template <size_t kSubs>
HWY_NOINLINE void RefitSuper(AffineSuper<kSubs>& best) {
  const DFloat d;
  const auto zero = hn::Zero(d);
  auto aa = zero, bb = zero, ab = zero, ax = zero, bx = zero;
  for (size_t s = 0; s < kSubs; ++s) {
    const auto code = best.codes[s];
    const auto min = best.mins[s];
    aa = hn::Add(aa, hn::Mul(hn::Mul(code, code), best.sums[s].l2));
    bb = hn::Add(bb, hn::Mul(hn::Mul(min, min), best.sw[s]));
    ab = hn::Add(ab, hn::Mul(hn::Mul(code, min), best.sums[s].l));
    ax = hn::Add(ax, hn::Mul(code, best.sums[s].xl));
    bx = hn::Add(bx, hn::Mul(min, best.sx[s]));
  }
  const auto determinant = hn::Sub(hn::Mul(aa, bb), hn::Mul(ab, ab));
  const auto solvable = hn::Gt(determinant, hn::Mul(hn::Set(d, 1e-7f), hn::Mul(aa, bb)));
  const auto safe = hn::IfThenElse(solvable, determinant, hn::Set(d, 1.0f));
  const auto d_both = hn::Div(hn::Sub(hn::Mul(ax, bb), hn::Mul(ab, bx)), safe);
  const auto dmin_both = hn::Div(hn::Sub(hn::Mul(ab, ax), hn::Mul(aa, bx)), safe);
  const auto d_new =
      StorableScale(hn::Max(hn::IfThenElse(solvable, d_both, SafeRatio(ax, aa)), zero));
  const auto dmin_new = StorableScale(hn::Max(hn::IfThenElseZero(solvable, dmin_both), zero));
  auto total = zero;
  for (size_t s = 0; s < kSubs; ++s) {
    total = hn::Add(total, AffineError(hn::Mul(d_new, best.codes[s]),
                                       hn::Mul(dmin_new, best.mins[s]), best.sums[s], best.sw[s],
                                       best.sx[s]));
  }
  const auto better = hn::Lt(total, best.error);
  best.d = hn::IfThenElse(better, d_new, best.d);
  best.dmin = hn::IfThenElse(better, dmin_new, best.dmin);
  best.error = hn::IfThenElse(better, total, best.error);
}

// Chooses everything anew around the present d and dmin: trials of either, then a fit.
template <size_t kSubs, int kMostScale>
HWY_NOINLINE void SearchSuper(const AffineEffort& effort, AffineSuper<kSubs>& best) {
  const DFloat d;
  KeepBetterScales<kSubs, kMostScale>(best.d, best.dmin, best);
  const auto d_first = best.d;
  for (size_t n = 0; n < 2 * effort.n_trials; ++n) {
    const float step = 0.004f * static_cast<float>(n / 2 + 1) * (n % 2 == 0 ? 1.0f : -1.0f);
    const auto d_new = StorableScale(hn::Mul(d_first, hn::Set(d, 1.0f + step)));
    KeepBetterScales<kSubs, kMostScale>(d_new, best.dmin, best);
  }
  const auto dmin_first = best.dmin;
  for (size_t n = 0; n < 2 * effort.n_trials; ++n) {
    const float step = 0.004f * static_cast<float>(n / 2 + 1) * (n % 2 == 0 ? 1.0f : -1.0f);
    const auto dmin_new = StorableScale(hn::Mul(dmin_first, hn::Set(d, 1.0f + step)));
    KeepBetterScales<kSubs, kMostScale>(best.d, dmin_new, best);
  }
  RefitSuper<kSubs>(best);
}

// Finds the scales of LaneCount() super-blocks whose weights lie in tile `x` (importance in `w`),
// and replaces the weights by their codes.
template <bool kWeighted, size_t kSubs, int kMostCode, int kMostScale>
HWY_NOINLINE void SearchAffine(float* HWY_RESTRICT x, const float* HWY_RESTRICT w,
                             const AffineEffort& effort, AffineSuper<kSubs>& best) {
  constexpr size_t kSubElems = 256 / kSubs;
  const DFloat d;
  constexpr size_t kN = LaneCount();
  const auto zero = hn::Zero(d);
  auto most_scale = zero, most_min = zero;
  for (size_t s = 0; s < kSubs; ++s) {
    const SubTile tile{x + s * kSubElems * kN, w + (kWeighted ? s * kSubElems * kN : 0)};
    auto sw = kWeighted ? zero : hn::Set(d, static_cast<float>(kSubElems));
    auto sx = zero;
    auto low = hn::Load(d, tile.x), high = low;
    for (size_t i = 0; i < kSubElems; ++i) {
      const auto xi = hn::Load(d, tile.x + i * kN);
      low = hn::Min(low, xi);
      high = hn::Max(high, xi);
      if constexpr (kWeighted) {
        const auto wi = hn::Load(d, tile.w + i * kN);
        sw = hn::Add(sw, wi);
        sx = hn::Add(sx, hn::Mul(wi, xi));
      } else {
        sx = hn::Add(sx, xi);
      }
    }
    const AffineFit fit = FitAffine<kWeighted, false, kSubElems, kMostCode>(
        tile, effort.cuts, effort.n_cuts, effort.n_refinements, sw, sx, low, high);
    best.sw[s] = sw;
    best.sx[s] = sx;
    best.sums[s] = fit.sums;
    best.scale[s] = fit.scale;
    best.codes[s] = zero;
    best.mins[s] = zero;
    most_scale = hn::Max(most_scale, fit.scale);
    most_min = hn::Max(most_min, fit.min);
  }
  const auto inverse_most = hn::Set(d, 1.0f / kMostScale);
  best.d = StorableScale(hn::Mul(most_scale, inverse_most));
  best.dmin = StorableScale(hn::Mul(most_min, inverse_most));
  // All codes and integers zero have error 0 relative to the sum of w x^2.
  best.error = zero;
  SearchSuper<kSubs, kMostScale>(effort, best);
  for (size_t round = 0; round < effort.n_rounds; ++round) {
    best.error = zero;
    for (size_t s = 0; s < kSubs; ++s) {
      const SubTile tile{x + s * kSubElems * kN, w + (kWeighted ? s * kSubElems * kN : 0)};
      const auto scale = hn::Mul(best.d, best.codes[s]);
      const auto min = hn::Mul(best.dmin, best.mins[s]);
      const auto inverse = SafeInverse(scale);
      best.sums[s] =
          SumsAt<kWeighted, kSubElems, kMostCode>(tile, inverse, hn::Mul(min, inverse));
      best.scale[s] = SafeRatio(
          hn::Add(best.sums[s].xl, hn::Mul(min, best.sums[s].l)), best.sums[s].l2);
      best.error = hn::Add(best.error,
                           AffineError(scale, min, best.sums[s], best.sw[s], best.sx[s]));
    }
    SearchSuper<kSubs, kMostScale>(effort, best);
  }
  for (size_t s = 0; s < kSubs; ++s) {
    const auto scale = hn::Mul(best.d, best.codes[s]);
    const auto min = hn::Mul(best.dmin, best.mins[s]);
    const auto inverse = SafeInverse(scale);
    for (size_t i = s * kSubElems; i < (s + 1) * kSubElems; ++i) {
      const auto t = hn::Mul(hn::Add(hn::Load(d, x + i * kN), min), inverse);
      hn::Store(RoundedCode(t, 0.0f, kMostCode), d, x + i * kN);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
