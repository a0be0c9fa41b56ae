// Types of 32 codes and one scale: q4_0 and q5_0; the search serves q8_0 too.

// Per-target include guard.
#if defined(QUERN_QUANT_SYMMETRIC32_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QUERN_QUANT_SYMMETRIC32_INL_H_
#undef QUERN_QUANT_SYMMETRIC32_INL_H_
#else
#define QUERN_QUANT_SYMMETRIC32_INL_H_
#endif

#include <hwy/highway.h>

#include "formats/core/bytes.h"
#include "formats/core/half.h"
#include "quant/block32-inl.h"
#include "quant/codec.h"
#include "quant/magnitude-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {

// Returns the element of largest magnitude; of equal ones the first; +0 if all are zero.
HWY_INLINE VFloat FirstExtreme(const Tile32& tile) {
  const DFloat d;
  auto extreme = hn::Zero(d);
  auto magnitude = hn::Zero(d);
  for (size_t i = 0; i < kBlock32; ++i) {
    const auto x = tile.At(i);
    const auto larger = hn::Gt(hn::Abs(x), magnitude);
    extreme = hn::IfThenElse(larger, x, extreme);
    magnitude = hn::Max(magnitude, hn::Abs(x));
  }
  return extreme;
}

// Codes 0..2 kHalf - 1 by ggml's rule for q4_0 and q5_0. Returns the scale, not yet rounded.
template <int kHalf>
HWY_INLINE VFloat PlainSymmetric(Tile32& tile) {
  const DFloat d;
  const DInt di;
  const auto scale = hn::Div(FirstExtreme(tile), hn::Set(d, -static_cast<float>(kHalf)));
  const PlainInverse plain = PlainInverseOf(scale, kHalf + 0.5f);
  for (size_t i = 0; i < kBlock32; ++i) {
    const auto t = hn::Add(hn::Mul(tile.At(i), plain.inverse), plain.offset);
    tile.SetCode(i, hn::Min(hn::ConvertTo(di, t), hn::Set(di, 2 * kHalf - 1)));
  }
  return scale;
}

// Returns the scale for blocks whose weights are all 0 or `magnitude`, for codes least..most. Where
// all have one sign the scale has the other, since the least code reaches further.
HWY_INLINE VFloat ScaleOfMagnitude(const Tile32& tile, float least, float most, VFloat magnitude) {
  const DFloat d;
  const auto zero = hn::Zero(d);
  auto low = zero, high = zero;
  for (size_t i = 0; i < kBlock32; ++i) {
    low = hn::Min(low, tile.At(i));
    high = hn::Max(high, tile.At(i));
  }
  const auto has_both = hn::And(hn::Gt(high, zero), hn::Lt(low, zero));
  const auto most_code = hn::IfThenElse(has_both, hn::Set(d, most), hn::Set(d, -least));
  const Product product = NearestProduct(magnitude, most_code, static_cast<size_t>(-least), 1);
  return hn::CopySign(product.scale, hn::Neg(hn::Add(low, high)));
}

// Finds a scale for codes least..most: tries to map the extreme to each of `reaches`, fits the
// scale to the codes, and keeps the one with the least error as stored; the first one (the plain
// rule's) unless another is clearly better. Leaves the codes, plus `bias`, in the tile, and returns
// the scale as it will be stored. kClamp: some reach lies outside least..most.
template <bool kWeighted, bool kClamp>
HWY_NOINLINE VFloat SearchSymmetric(Tile32& tile, float least, float most, int bias,
                                    const float* HWY_RESTRICT reaches, size_t n_reaches) {
  const DFloat d;
  const DInt di;
  constexpr size_t kTogether = LaneCount() == 16 ? 4 : 2;
  const auto inverse_extreme = SafeInverse(FirstExtreme(tile));
  auto best_scale = hn::Zero(d), best_gain = hn::Zero(d);
  for (size_t c = 0; c < n_reaches; c += kTogether) {
    VFloat inverse[kTogether], l2[kTogether], xl[kTogether];
    for (size_t k = 0; k < kTogether; ++k) {
      inverse[k] = hn::Mul(inverse_extreme, hn::Set(d, reaches[HWY_MIN(c + k, n_reaches - 1)]));
      l2[k] = hn::Zero(d);
      xl[k] = hn::Zero(d);
    }
    for (size_t i = 0; i < kBlock32; ++i) {
      const auto x = tile.At(i);
      const auto w = kWeighted ? tile.WeightAt(i) : x;
      for (size_t k = 0; k < kTogether; ++k) {
        const auto t = hn::Mul(x, inverse[k]);
        const auto l = kClamp ? RoundedCode(t, least, most) : Rounded(t);
        const auto wl = kWeighted ? hn::Mul(w, l) : l;
        l2[k] = hn::Add(l2[k], hn::Mul(wl, l));
        xl[k] = hn::Add(xl[k], hn::Mul(wl, x));
      }
    }
    for (size_t k = 0; k < kTogether; ++k) {
      const auto scale = StorableScale(SafeRatio(xl[k], l2[k]));
      // By how much the error is below the sum of w x^2.
      const auto gain = hn::Neg(ScaleError(scale, l2[k], xl[k]));
      const auto better = hn::Gt(gain, hn::Mul(best_gain, hn::Set(d, 1.0f + kLeastGain)));
      best_scale = hn::IfThenElse(better, scale, best_scale);
      best_gain = hn::IfThenElse(better, gain, best_gain);
    }
  }
  const auto magnitude = CommonMagnitude(tile.x, kBlock32);
  const auto fits = hn::Gt(magnitude, hn::Zero(d));
  if (!hn::AllFalse(d, fits)) {
    const auto scale = ScaleOfMagnitude(tile, least, most, magnitude);
    best_scale = hn::IfThenElse(fits, scale, best_scale);
  }
  const auto inverse = SafeInverse(best_scale);
  for (size_t i = 0; i < kBlock32; ++i) {
    const auto l = RoundedCode(hn::Mul(tile.At(i), inverse), least, most);
    tile.SetCode(i, hn::Add(hn::ConvertTo(di, l), hn::Set(di, bias)));
  }
  return best_scale;
}

// The codes that the extreme is tried at, in the order in which they help; the first is the plain
// rule's.
struct Reaches {
  float unweighted[16];
  float weighted[16];
};

// q4_0 (kBits 4) and q5_0: a scale, then codes of which half the range is subtracted.
template <int kBits>
struct Symmetric32 {
  static constexpr size_t kBytes = 2 + kBlock32 * kBits / 8;
  static constexpr int kHalf = 1 << (kBits - 1);

  static void Store(const Tile32& tile, VFloat scale, uint8_t* HWY_RESTRICT out) {
    StoreLanes<2>(F16BitsFromF32(DFloat(), scale), out, kBytes);
    StoreCodes<kBits>(tile, out + 2, kBytes);
  }

  static void EncodePlain(const float* HWY_RESTRICT blocks, uint8_t* HWY_RESTRICT out) {
    Tile32 tile;
    LoadTile32<false>(blocks, nullptr, tile);
    const auto scale = PlainSymmetric<kHalf>(tile);
    Store(tile, scale, out);
  }

  template <bool kWeighted>
  static void EncodeSearched(const float* HWY_RESTRICT blocks, const float* HWY_RESTRICT importance,
                             Effort effort, const Reaches& reaches, uint8_t* HWY_RESTRICT out) {
    Tile32 tile;
    LoadTile32<kWeighted>(blocks, importance, tile);
    if constexpr (kWeighted) EmphasizeLargeWeights(tile.x, kBlock32, 2.0f, tile.w);
    const size_t n_reaches = effort == Effort::kFast                   ? 4
                             : effort == Effort::kNormal && !kWeighted ? 8
                                                                       : 16;
    const auto scale = SearchSymmetric<kWeighted, true>(
        tile, -kHalf, kHalf - 1, kHalf, kWeighted ? reaches.weighted : reaches.unweighted,
        n_reaches);
    Store(tile, scale, out);
  }

  static HWY_INLINE void Encode(const EncodeInput& in, const Reaches& reaches, uint8_t* out) {
    EncodeBlocks32<kBytes>(
        in, EncodePlain,
        [&](auto weighted, const float* x, const float* w, uint8_t* blocks)
            HWY_ATTR { EncodeSearched<weighted>(x, w, in.effort, reaches, blocks); },
        out);
  }

  static HWY_INLINE void Decode(const uint8_t* blocks, uint64_t n_elems, float* out) {
    const DFloat d;
    const auto half = hn::Set(DInt(), kHalf);
    for (const float* end = out + n_elems; out != end; out += kBlock32, blocks += kBytes) {
      const auto scale = hn::Set(d, F16ToF32(LoadLE<uint16_t>(blocks)));
      const auto value_of = [&](VInt code) HWY_ATTR {
        return hn::Mul(hn::ConvertTo(d, hn::Sub(code, half)), scale);
      };
      DecodeCodes<kBits>(blocks + 2, value_of, out);
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
