// The search for scales, one block per lane.
//
// Every function works on tiles (see LoadTile): element i of all lanes' blocks lies in one vector.
// Sums run over the elements in order, separately in each lane, with one rounding per operation and
// no fused multiply-add, so that the result depends on no lane count and no instruction set.
//
// Functions that do much per call are not inlined: every target and weighting compiles them anew.

// Per-target include guard.
#if defined(QUERN_QUANT_SCALE_SEARCH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QUERN_QUANT_SCALE_SEARCH_INL_H_
#undef QUERN_QUANT_SCALE_SEARCH_INL_H_
#else
#define QUERN_QUANT_SCALE_SEARCH_INL_H_
#endif

#include <hwy/highway.h>

#include "quant/half-inl.h"
#include "quant/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {

// Ranges below this count as empty: their inverse could overflow, and no binary16 scale holds them.
inline constexpr float kLeastRange = 1e-30f;

// Rounds to nearest even. Requires: |t| < 2^22.
HWY_INLINE VFloat Rounded(VFloat t) {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_SSSE3 || HWY_TARGET == HWY_EMU128
  const DFloat d;
  const auto magic = hn::Set(d, 12582912.0f);  // 1.5 * 2^23: its unit is 1
  return hn::Sub(hn::Add(t, magic), magic);
#else
  return hn::Round(t);
#endif
}

// Rounds to a code between `least` and `most`, whatever t is (NaN gives one of the two).
HWY_INLINE VFloat RoundedCode(VFloat t, float least, float most) {
  const DFloat d;
  return Rounded(hn::Min(hn::Max(t, hn::Set(d, least)), hn::Set(d, most)));
}

// Returns 1 / v, or 0 where v is so small that it would overflow (or is 0).
HWY_INLINE VFloat SafeInverse(VFloat v) {
  const DFloat d;
  const auto usable = hn::Gt(hn::Abs(v), hn::Set(d, kLeastRange));
  return hn::IfThenElseZero(usable, hn::Div(hn::Set(d, 1.0f), v));
}

// Returns a / b, or 0 where b <= 0.
HWY_INLINE VFloat SafeRatio(VFloat a, VFloat b) {
  const DFloat d;
  const auto positive = hn::Gt(b, hn::Zero(d));
  return hn::IfThenElseZero(positive, hn::Div(a, hn::IfThenElse(positive, b, hn::Set(d, 1.0f))));
}

// Rounds a scale to binary16 and keeps it finite.
HWY_INLINE VFloat StorableScale(VFloat scale) {
  const DFloat d;
  const auto most = hn::Set(d, 65504.0f);
  return RoundToF16(d, hn::Min(hn::Max(scale, hn::Neg(most)), most));
}

// What a search must gain over the plain solution to be preferred, as a part of the whole: far below
// what matters, but above the rounding errors of the sums. So degenerate blocks (one weight, equal
// weights) keep the plain solution, which is often exact.
inline constexpr float kLeastGain = 1e-6f;

// Two unknowns are solved for only where their determinant is above this part of the products that
// it is the difference of: their sums over 32 elements may be wrong by 2^-19, and twice two of them
// by 7.6e-6.
inline constexpr float kLeastDeterminant = 1e-5f;

// Brings the importance of `elems` elements into a range in which no sum overflows: relative to the
// largest of the block, and never quite zero, so that unimportant weights are still rounded well.
// A block without any importance is unweighted.
HWY_INLINE void NormalizeWeights(float* HWY_RESTRICT w, size_t elems) {
  const DFloat d;
  constexpr size_t kN = LaneCount();
  auto most = hn::Zero(d);
  for (size_t i = 0; i < elems; ++i) most = hn::Max(most, hn::Load(d, w + i * kN));
  const auto weighted = hn::Gt(most, hn::Set(d, kLeastRange));
  const auto inverse = SafeInverse(most);
  for (size_t i = 0; i < elems; ++i) {
    const auto relative = hn::Max(hn::Mul(hn::Load(d, w + i * kN), inverse), hn::Set(d, 1e-6f));
    hn::Store(hn::IfThenElse(weighted, relative, hn::Set(d, 1.0f)), d, w + i * kN);
  }
}

// Multiplies the importance of `elems` elements by sqrt(share * mean x^2 + x^2), relative to the
// root of the block's mean: larger weights, which move the outputs further, are rounded with more
// care, as in ggml's encoders. For types of so few values that all weights cannot be served: there
// it lowers the divergence, if not the squared error. The smaller the share, the more size counts.
HWY_INLINE void EmphasizeLargeWeights(const float* HWY_RESTRICT x, size_t elems, float share,
                                      float* HWY_RESTRICT w) {
  const DFloat d;
  constexpr size_t kN = LaneCount();
  auto squares = hn::Zero(d);
  for (size_t i = 0; i < elems; ++i) {
    const auto v = hn::Load(d, x + i * kN);
    squares = hn::Add(squares, hn::Mul(v, v));
  }
  const auto inverse_mean =
      SafeInverse(hn::Mul(squares, hn::Set(d, 1.0f / static_cast<float>(elems))));
  for (size_t i = 0; i < elems; ++i) {
    const auto v = hn::Load(d, x + i * kN);
    const auto relative = hn::Mul(hn::Mul(v, v), inverse_mean);
    const auto factor = hn::Sqrt(hn::Add(hn::Set(d, share), relative));
    hn::Store(hn::Mul(hn::Load(d, w + i * kN), factor), d, w + i * kN);
  }
}

// Sums over the elements of a sub-block with codes l: of w, w x, w l, w l^2 and w x l.
struct CodeSums {
  VFloat l, l2, xl;
};

// A sub-block in lanes. `w` is null if all weights are 1.
struct SubTile {
  const float* HWY_RESTRICT x;
  const float* HWY_RESTRICT w;
};

template <bool kWeighted>
HWY_INLINE void AddCode(VFloat x, VFloat w, VFloat l, CodeSums& sums) {
  const auto wl = kWeighted ? hn::Mul(w, l) : l;
  sums.l = hn::Add(sums.l, wl);
  sums.l2 = hn::Add(sums.l2, hn::Mul(wl, l));
  sums.xl = hn::Add(sums.xl, hn::Mul(wl, x));
}

// Returns the error of `scale`, without the constant sum of w x^2, from the sums of codes (or of
// codebook values) over w l^2 and w x l.
HWY_INLINE VFloat ScaleError(VFloat scale, VFloat l2, VFloat xl) {
  return hn::Mul(scale, hn::Sub(hn::Mul(scale, l2), hn::Mul(hn::Set(DFloat(), 2.0f), xl)));
}

// The same with a minimum m (values are s l - m): s^2 l2 + m^2 w - 2 s xl + 2 m x - 2 s m l.
HWY_INLINE VFloat AffineError(VFloat s, VFloat m, const CodeSums& sums, VFloat sw, VFloat sx) {
  const DFloat d;
  const auto two = hn::Set(d, 2.0f);
  const auto squares = hn::Add(hn::Mul(hn::Mul(s, s), sums.l2), hn::Mul(hn::Mul(m, m), sw));
  const auto linear = hn::Sub(hn::Mul(m, sx), hn::Mul(s, sums.xl));
  const auto cross = hn::Mul(hn::Mul(s, m), sums.l);
  return hn::Add(squares, hn::Mul(two, hn::Sub(linear, cross)));
}

// The best scale and minimum found for a sub-block, with the sums of its codes.
//
// Codes are counted from `origin`, the one that stands for about 0: then sums are small where
// weights are, and differences between them exact enough to tell nearly exact fits apart.
struct AffineFit {
  VFloat scale, min;  // values are scale * l - min, l counted from the origin
  VFloat origin;
  VFloat gain;  // by how much the error is below the sum of w x^2
  CodeSums sums;
};

// Solves for scale and minimum by least squares and keeps them in `best` where they gain more.
// kSignedMin: the origin is 0 and the minimum may have either sign; otherwise the minimum, of codes
// counted from 0, is not negative.
template <bool kSignedMin>
HWY_INLINE void KeepBetterFit(const CodeSums& sums, VFloat origin, VFloat sw, VFloat sx,
                              AffineFit& best) {
  const DFloat d;
  const auto zero = hn::Zero(d);
  const auto determinant = hn::Sub(hn::Mul(sw, sums.l2), hn::Mul(sums.l, sums.l));
  // Where all codes are (nearly) equal the system is singular: fit the scale alone.
  const auto solvable =
      hn::Gt(determinant, hn::Mul(hn::Set(d, kLeastDeterminant), hn::Mul(sw, sums.l2)));
  const auto safe = hn::IfThenElse(solvable, determinant, hn::Set(d, 1.0f));
  auto scale = hn::Div(hn::Sub(hn::Mul(sw, sums.xl), hn::Mul(sx, sums.l)), safe);
  auto min = hn::Div(hn::Sub(hn::Mul(sums.l, sums.xl), hn::Mul(sums.l2, sx)), safe);
  if constexpr (kSignedMin) {
    scale = hn::IfThenElse(solvable, scale, SafeRatio(sums.xl, sums.l2));
    min = hn::IfThenElseZero(solvable, min);
  } else {
    const auto min_of_zero = hn::Add(min, hn::Mul(scale, origin));
    const auto use = hn::And(solvable, hn::Ge(min_of_zero, zero));
    // The minimum 0: codes are counted from 0.
    const auto xl = hn::Add(sums.xl, hn::Mul(origin, sx));
    const auto by_origin = hn::Add(hn::Add(sums.l, sums.l), hn::Mul(origin, sw));
    const auto alone = SafeRatio(xl, hn::Add(sums.l2, hn::Mul(origin, by_origin)));
    scale = hn::IfThenElse(use, scale, alone);
    min = hn::IfThenElse(use, min, hn::Neg(hn::Mul(alone, origin)));
  }
  // The true gain, which does not rely on the solution being exact.
  const auto gain = hn::Neg(AffineError(scale, min, sums, sw, sx));
  const auto least_gain = hn::Mul(best.gain, hn::Set(d, 1.0f + kLeastGain));
  const auto better = hn::And(hn::Gt(gain, least_gain), hn::Gt(scale, zero));
  best.scale = hn::IfThenElse(better, scale, best.scale);
  best.min = hn::IfThenElse(better, min, best.min);
  if constexpr (!kSignedMin) best.origin = hn::IfThenElse(better, origin, best.origin);
  best.gain = hn::IfThenElse(better, gain, best.gain);
  best.sums.l = hn::IfThenElse(better, sums.l, best.sums.l);
  best.sums.l2 = hn::IfThenElse(better, sums.l2, best.sums.l2);
  best.sums.xl = hn::IfThenElse(better, sums.xl, best.sums.xl);
}

// A way to lay the codes over the range of a sub-block: cut off `a` steps at the bottom and `b` at
// the top (negative: leave so much of the code range unused). Both below 1/2, so that codes need no
// clamp.
struct Cut {
  float a, b;
};

// Returns the sums for the codes round(x * inverse + offset), which are between 0 and kMostCode,
// counted from `origin`.
template <bool kWeighted, size_t kElems, int kMostCode>
HWY_NOINLINE CodeSums SumsAt(const SubTile& tile, VFloat inverse, VFloat offset, VFloat origin) {
  const DFloat d;
  constexpr size_t kN = LaneCount();
  const auto from_origin = hn::Sub(offset, origin);
  const auto least = hn::Neg(origin), most = hn::Sub(hn::Set(d, kMostCode), origin);
  CodeSums sums{hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  for (size_t i = 0; i < kElems; ++i) {
    const auto x = hn::Load(d, tile.x + i * kN);
    const auto w = kWeighted ? hn::Load(d, tile.w + i * kN) : x;
    const auto t = hn::Add(hn::Mul(x, inverse), from_origin);
    AddCode<kWeighted>(x, w, Rounded(hn::Min(hn::Max(t, least), most)), sums);
  }
  return sums;
}

// Rounds codes with scale and minimum (of codes counted from 0), and fits both to these codes;
// keeps the fit in `best` where it gains more.
template <bool kWeighted, bool kSignedMin, size_t kElems, int kMostCode>
HWY_INLINE void RefineFit(const SubTile& tile, VFloat scale, VFloat min, VFloat sw, VFloat sx,
                          AffineFit& best) {
  const DFloat d;
  const auto inverse = SafeInverse(scale);
  const auto offset = hn::Mul(min, inverse);
  const auto origin = kSignedMin ? hn::Zero(d) : RoundedCode(offset, 0.0f, kMostCode);
  const CodeSums sums = SumsAt<kWeighted, kElems, kMostCode>(tile, inverse, offset, origin);
  KeepBetterFit<kSignedMin>(sums, origin, sw, sx, best);
}

// Fits a sub-block whose codes are 0..kMostCode: tries all `cuts`, then refines the best
// `n_refinements` times (round with the fit, fit again). `sw` and `sx` are its sums of w and w x,
// `low` and `high` its least and largest weight; where minima may have either sign, the weights are
// relative to the least one, so that `low` is 0.
template <bool kWeighted, bool kSignedMin, size_t kElems, int kMostCode>
HWY_NOINLINE AffineFit FitAffine(const SubTile& tile, const Cut* HWY_RESTRICT cuts, size_t n_cuts,
                               size_t n_refinements, VFloat sw, VFloat sx, VFloat low,
                               VFloat high) {
  const DFloat d;
  const auto zero = hn::Zero(d);
  constexpr size_t kN = LaneCount();
  // As many candidates at once as the registers hold.
  constexpr size_t kTogether = kN == 16 ? 4 : 2;
  if constexpr (!kSignedMin) low = hn::Min(low, zero);
  const auto inverse_range = SafeInverse(hn::Sub(high, low));
  // To begin with: all codes 0, and the mean as the value.
  AffineFit best;
  best.scale = zero;
  best.min = hn::Neg(SafeRatio(sx, sw));
  if constexpr (!kSignedMin) best.min = hn::Max(best.min, zero);
  best.origin = zero;
  best.gain = hn::Neg(hn::Mul(best.min, sx));
  best.sums = {zero, zero, zero};
  for (size_t c = 0; c < n_cuts; c += kTogether) {
    VFloat inverse[kTogether], offset[kTogether], origin[kTogether];
    CodeSums sums[kTogether];
    for (size_t k = 0; k < kTogether; ++k) {
      const Cut cut = cuts[HWY_MIN(c + k, n_cuts - 1)];
      const float most = static_cast<float>(kMostCode);
      inverse[k] = hn::Mul(inverse_range, hn::Set(d, most + cut.a + cut.b));
      offset[k] = hn::Set(d, -cut.a);
      origin[k] = zero;
      if constexpr (!kSignedMin) {
        const auto of_zero = hn::Sub(offset[k], hn::Mul(low, inverse[k]));
        origin[k] = Rounded(of_zero);
        offset[k] = hn::Sub(of_zero, origin[k]);
      }
      sums[k] = {zero, zero, zero};
    }
    for (size_t i = 0; i < kElems; ++i) {
      const auto x = hn::Load(d, tile.x + i * kN);
      const auto w = kWeighted ? hn::Load(d, tile.w + i * kN) : x;
      for (size_t k = 0; k < kTogether; ++k) {
        const auto t = hn::Add(hn::Mul(x, inverse[k]), offset[k]);
        AddCode<kWeighted>(x, w, Rounded(t), sums[k]);
      }
    }
    for (size_t k = 0; k < kTogether; ++k) {
      KeepBetterFit<kSignedMin>(sums[k], origin[k], sw, sx, best);
    }
  }
  for (size_t n = 0; n < n_refinements; ++n) {
    const auto min = hn::Add(best.min, hn::Mul(best.scale, best.origin));
    RefineFit<kWeighted, kSignedMin, kElems, kMostCode>(tile, best.scale, min, sw, sx, best);
  }
  return best;
}

}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
