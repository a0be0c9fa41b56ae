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

#include "quant/magnitude-inl.h"
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

// How the error of a sub-block whose codes are fixed depends on its scale s and minimum m (of codes
// counted from 0): relative to the error at a fit, beside which the sum of w x^2 would hide the
// differences between nearly exact ones.
class ErrorAround {
 public:
  ErrorAround() = default;
  ErrorAround(const AffineFit& fit, VFloat sw, VFloat sx)
      : scale_(fit.scale),
        min_(fit.min),
        origin_(fit.origin),
        half_by_scale_(hn::Sub(
            hn::Sub(hn::Mul(fit.scale, fit.sums.l2), hn::Mul(fit.min, fit.sums.l)), fit.sums.xl)),
        half_by_min_(hn::Add(hn::Sub(hn::Mul(fit.min, sw), hn::Mul(fit.scale, fit.sums.l)), sx)),
        sw_(sw),
        inverse_sw_(SafeInverse(sw)),
        l_(fit.sums.l),
        l2_(fit.sums.l2) {}

  VFloat scale() const { return scale_; }
  VFloat sw() const { return sw_; }

  HWY_INLINE VFloat At(VFloat s, VFloat m) const { return ErrorOf(StepsTo(s, m)); }

  // For scale s and minima that are dmin * (0..most), finds the best of these and the error with
  // it.
  HWY_INLINE VFloat WithBestMin(VFloat s, VFloat dmin, VFloat inverse_dmin, float most,
                                VFloat& min_code) const {
    const auto step = hn::Sub(s, scale_);
    const auto from_origin = hn::Add(hn::Mul(s, origin_), min_);
    const auto rise = hn::Mul(hn::Sub(hn::Mul(step, l_), half_by_min_), inverse_sw_);
    min_code = RoundedCode(hn::Mul(hn::Add(from_origin, rise), inverse_dmin), 0.0f, most);
    return ErrorOf({step, hn::Sub(hn::Mul(dmin, min_code), from_origin)});
  }

  // Half the derivatives of the error at s and m by either.
  struct Slopes {
    VFloat scale, min;
  };
  HWY_INLINE Slopes HalfSlopes(VFloat s, VFloat m) const {
    const Steps to = StepsTo(s, m);
    const auto by_scale =
        hn::Add(hn::Sub(hn::Mul(to.scale, l2_), hn::Mul(to.min, l_)), half_by_scale_);
    const auto by_min = hn::Add(hn::Sub(hn::Mul(to.min, sw_), hn::Mul(to.scale, l_)), half_by_min_);
    return {hn::Sub(by_scale, hn::Mul(origin_, by_min)), by_min};
  }
  // The sums of w l and w l^2, codes counted from 0.
  VFloat SumL() const { return hn::Add(l_, hn::Mul(origin_, sw_)); }
  VFloat SumL2() const { return hn::Add(l2_, hn::Mul(origin_, hn::Add(l_, SumL()))); }

 private:
  // From the fit to another point, in terms of codes counted from the origin.
  struct Steps {
    VFloat scale, min;
  };
  HWY_INLINE Steps StepsTo(VFloat s, VFloat m) const {
    return {hn::Sub(s, scale_), hn::Sub(m, hn::Add(hn::Mul(s, origin_), min_))};
  }
  HWY_INLINE VFloat ErrorOf(const Steps& to) const {
    const auto cross = hn::Mul(to.scale, l_);
    const auto by_scale = hn::Add(hn::Mul(to.scale, l2_), hn::Add(half_by_scale_, half_by_scale_));
    const auto by_min = hn::Sub(hn::Add(hn::Mul(to.min, sw_), hn::Add(half_by_min_, half_by_min_)),
                                hn::Add(cross, cross));
    return hn::Add(hn::Mul(to.scale, by_scale), hn::Mul(to.min, by_min));
  }

  VFloat scale_, min_, origin_;         // the fit, with codes counted from the origin
  VFloat half_by_scale_, half_by_min_;  // half the derivatives there: 0 unless the minimum is bound
  VFloat sw_, inverse_sw_, l_, l2_;     // sums of w, w l and w l^2, codes counted from the origin
};

// One super-block per lane.
template <size_t kSubs>
struct AffineSuper {
  ErrorAround subs[kSubs];
  VFloat d, dmin;                    // storable as binary16
  VFloat codes[kSubs], mins[kSubs];  // integers: scales are d * codes, minima dmin * mins
  VFloat error;                      // the sum of ErrorAround with all these
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
    const ErrorAround& sub = best.subs[s];
    const auto nearest = RoundedCode(hn::Mul(sub.scale(), inverse_d), 0.0f, kMostScale);
    auto least = hn::Zero(d);
    for (const float step : {0.0f, -1.0f, 1.0f}) {
      const auto code = RoundedCode(hn::Add(nearest, hn::Set(d, step)), 0.0f, kMostScale);
      const auto scale = hn::Mul(d_new, code);
      VFloat min_code;
      const auto error = sub.WithBestMin(scale, dmin_new, inverse_dmin, kMostScale, min_code);
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

// Fits d and dmin to the integers by least squares (one step of Newton's from where they are), and
// keeps them where the error falls.
template <size_t kSubs>
HWY_NOINLINE void RefitSuper(AffineSuper<kSubs>& best) {
  const DFloat d;
  const auto zero = hn::Zero(d);
  auto aa = zero, bb = zero, ab = zero, slope_d = zero, slope_dmin = zero;
  for (size_t s = 0; s < kSubs; ++s) {
    const ErrorAround& sub = best.subs[s];
    const auto code = best.codes[s];
    const auto min = best.mins[s];
    const auto slopes = sub.HalfSlopes(hn::Mul(best.d, code), hn::Mul(best.dmin, min));
    slope_d = hn::Add(slope_d, hn::Mul(code, slopes.scale));
    slope_dmin = hn::Add(slope_dmin, hn::Mul(min, slopes.min));
    aa = hn::Add(aa, hn::Mul(hn::Mul(code, code), sub.SumL2()));
    bb = hn::Add(bb, hn::Mul(hn::Mul(min, min), sub.sw()));
    ab = hn::Add(ab, hn::Mul(hn::Mul(code, min), sub.SumL()));
  }
  const auto determinant = hn::Sub(hn::Mul(aa, bb), hn::Mul(ab, ab));
  const auto solvable =
      hn::Gt(determinant, hn::Mul(hn::Set(d, kLeastDeterminant), hn::Mul(aa, bb)));
  const auto safe = hn::IfThenElse(solvable, determinant, hn::Set(d, 1.0f));
  const auto d_step = hn::Div(hn::Add(hn::Mul(slope_d, bb), hn::Mul(slope_dmin, ab)), safe);
  const auto dmin_step = hn::Div(hn::Add(hn::Mul(slope_d, ab), hn::Mul(slope_dmin, aa)), safe);
  const auto d_wanted = hn::Sub(best.d, hn::IfThenElse(solvable, d_step, SafeRatio(slope_d, aa)));
  const auto dmin_wanted = hn::Sub(best.dmin, hn::IfThenElseZero(solvable, dmin_step));
  const auto d_new = StorableScale(hn::Max(d_wanted, zero));
  const auto dmin_new = StorableScale(hn::Max(dmin_wanted, zero));
  auto total = zero;
  for (size_t s = 0; s < kSubs; ++s) {
    total = hn::Add(
        total, best.subs[s].At(hn::Mul(d_new, best.codes[s]), hn::Mul(dmin_new, best.mins[s])));
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

// Super-blocks whose weights are all 0 or `magnitude`, with either sign: sets the scales. Zeros in
// a sub-block that has negative weights get the code `half`, positive weights there twice that;
// positive weights elsewhere get `half`. So dmin times its integer and d times its own times `half`
// both come near the magnitude.
template <bool kWeighted, size_t kSubs, int kMostCode, int kMostScale>
HWY_NOINLINE void FitMagnitude(const float* HWY_RESTRICT x, const float* HWY_RESTRICT w,
                               VFloat magnitude, AffineSuper<kSubs>& best) {
  constexpr size_t kSubElems = 256 / kSubs;
  const DFloat d;
  const auto zero = hn::Zero(d);
  const auto two = hn::Set(d, 2.0f);
  VFloat minus[kSubs];
  // Importance of negative weights, of zeros and positive weights beside them, and of others.
  auto minuses = zero, zeros = zero, pluses = zero, others = zero;
  for (size_t s = 0; s < kSubs; ++s) {
    const size_t at = s * kSubElems * LaneCount();
    const SignSums sums = SumsBySign<kWeighted>({x + at, w + (kWeighted ? at : 0)}, kSubElems);
    minus[s] = sums.minus;
    const auto mixed = hn::Gt(sums.minus, zero);
    minuses = hn::Add(minuses, sums.minus);
    zeros = hn::Add(zeros, hn::IfThenElseZero(mixed, sums.zero));
    pluses = hn::Add(pluses, hn::IfThenElseZero(mixed, sums.plus));
    others = hn::Add(others, hn::IfThenZeroElse(mixed, sums.plus));
  }
  const auto most_half =
      hn::IfThenElse(hn::Gt(pluses, zero), hn::Set(d, kMostCode / 2), hn::Set(d, kMostCode));
  const auto most_scale = hn::Set(d, kMostScale);
  auto least = hn::Set(d, hwy::HighestValue<float>());
  Product scale{zero, zero, zero, zero}, min = scale;
  // The nearest minimum, and the plain one of the largest integer.
  for (const size_t n_min : {size_t{kMostScale}, size_t{1}}) {
    const Product m = NearestProduct(magnitude, most_scale, n_min, 1);
    const auto wanted = hn::Add(hn::Mul(zeros, m.value), hn::Mul(others, magnitude));
    const auto above = hn::Mul(pluses, hn::Add(magnitude, m.value));
    const auto target =
        SafeRatio(hn::Add(wanted, hn::Mul(two, above)),
                  hn::Add(hn::Add(zeros, others), hn::Mul(hn::Set(d, 4.0f), pluses)));
    const Product s = NearestProduct(target, most_half, kMostCode, kMostScale);
    const auto square = [](VFloat weight, VFloat v)
                            HWY_ATTR { return hn::Mul(weight, hn::Mul(v, v)); };
    const auto of_minus = square(minuses, hn::Sub(magnitude, m.value));
    const auto of_zero = square(zeros, hn::Sub(s.value, m.value));
    const auto of_plus =
        square(pluses, hn::Sub(hn::Add(magnitude, m.value), hn::Mul(two, s.value)));
    const auto of_others = square(others, hn::Sub(magnitude, s.value));
    const auto error = hn::Add(hn::Add(of_minus, of_zero), hn::Add(of_plus, of_others));
    const auto better = hn::Lt(error, least);
    least = hn::IfThenElse(better, error, least);
    scale.scale = hn::IfThenElse(better, s.scale, scale.scale);
    scale.b = hn::IfThenElse(better, s.b, scale.b);
    min.scale = hn::IfThenElse(better, m.scale, min.scale);
    min.a = hn::IfThenElse(better, m.a, min.a);
  }
  const auto fits = hn::Gt(magnitude, zero);
  best.d = hn::IfThenElse(fits, scale.scale, best.d);
  best.dmin = hn::IfThenElse(fits, min.scale, best.dmin);
  for (size_t s = 0; s < kSubs; ++s) {
    const auto min_code = hn::IfThenElseZero(hn::Gt(minus[s], zero), min.a);
    best.codes[s] = hn::IfThenElse(fits, scale.b, best.codes[s]);
    best.mins[s] = hn::IfThenElse(fits, min_code, best.mins[s]);
  }
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
  VFloat sx[kSubs];
  // All codes and integers zero.
  best.error = zero;
  for (size_t s = 0; s < kSubs; ++s) {
    const SubTile tile{x + s * kSubElems * kN, w + (kWeighted ? s * kSubElems * kN : 0)};
    auto sw = kWeighted ? zero : hn::Set(d, static_cast<float>(kSubElems));
    sx[s] = zero;
    auto low = hn::Load(d, tile.x), high = low;
    for (size_t i = 0; i < kSubElems; ++i) {
      const auto xi = hn::Load(d, tile.x + i * kN);
      low = hn::Min(low, xi);
      high = hn::Max(high, xi);
      if constexpr (kWeighted) {
        const auto wi = hn::Load(d, tile.w + i * kN);
        sw = hn::Add(sw, wi);
        sx[s] = hn::Add(sx[s], hn::Mul(wi, xi));
      } else {
        sx[s] = hn::Add(sx[s], xi);
      }
    }
    const AffineFit fit = FitAffine<kWeighted, false, kSubElems, kMostCode>(
        tile, effort.cuts, effort.n_cuts, effort.n_refinements, sw, sx[s], low, high);
    best.subs[s] = ErrorAround(fit, sw, sx[s]);
    best.codes[s] = zero;
    best.mins[s] = zero;
    best.error = hn::Add(best.error, best.subs[s].At(zero, zero));
    most_scale = hn::Max(most_scale, fit.scale);
    most_min = hn::Max(most_min, hn::Add(fit.min, hn::Mul(fit.scale, fit.origin)));
  }
  const auto inverse_most = hn::Set(d, 1.0f / kMostScale);
  best.d = StorableScale(hn::Mul(most_scale, inverse_most));
  best.dmin = StorableScale(hn::Mul(most_min, inverse_most));
  SearchSuper<kSubs, kMostScale>(effort, best);
  for (size_t round = 0; round < effort.n_rounds; ++round) {
    best.error = zero;
    for (size_t s = 0; s < kSubs; ++s) {
      const SubTile tile{x + s * kSubElems * kN, w + (kWeighted ? s * kSubElems * kN : 0)};
      const auto scale = hn::Mul(best.d, best.codes[s]);
      const auto min = hn::Mul(best.dmin, best.mins[s]);
      const auto sw = best.subs[s].sw();
      AffineFit fit{zero, zero, zero, zero, {zero, zero, zero}};
      RefineFit<kWeighted, false, kSubElems, kMostCode>(tile, scale, min, sw, sx[s], fit);
      best.subs[s] = ErrorAround(fit, sw, sx[s]);
      best.error = hn::Add(best.error, best.subs[s].At(scale, min));
    }
    SearchSuper<kSubs, kMostScale>(effort, best);
  }
  const auto magnitude = CommonMagnitude(x, 256);
  if (!hn::AllFalse(d, hn::Gt(magnitude, zero))) {
    FitMagnitude<kWeighted, kSubs, kMostCode, kMostScale>(x, w, magnitude, best);
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
