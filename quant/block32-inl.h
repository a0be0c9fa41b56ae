// What the types with 32 elements per block share: plain rules, searches and packing, one block per
// lane. See scale_search-inl.h for the rules of such code.

// Per-target include guard.
#if defined(QUERN_QUANT_BLOCK32_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QUERN_QUANT_BLOCK32_INL_H_
#undef QUERN_QUANT_BLOCK32_INL_H_
#else
#define QUERN_QUANT_BLOCK32_INL_H_
#endif

#include <hwy/highway.h>

#include "quant/scale_search-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {

inline constexpr size_t kBlock32 = 32;

// LaneCount() blocks of 32 weights, and later their codes.
struct Tile32 {
  HWY_ALIGN float x[kBlock32 * kMostLanes];
  HWY_ALIGN float w[kBlock32 * kMostLanes];

  VFloat At(size_t i) const { return hn::Load(DFloat(), x + i * LaneCount()); }
  VFloat WeightAt(size_t i) const { return hn::Load(DFloat(), w + i * LaneCount()); }
  void Set(size_t i, VFloat v) { hn::Store(v, DFloat(), x + i * LaneCount()); }
  // Codes are kept as integers in the place of the weights.
  VUint CodeAt(size_t i) const {
    return hn::Load(DUint(), reinterpret_cast<const uint32_t*>(x) + i * LaneCount());
  }
  void SetCode(size_t i, VInt code) {
    hn::Store(code, DInt(), reinterpret_cast<int32_t*>(x) + i * LaneCount());
  }
};

// Loads weights, and their importance if there is any.
template <bool kWeighted>
HWY_INLINE void LoadTile32(const float* HWY_RESTRICT blocks, const float* HWY_RESTRICT importance,
                           Tile32& tile) {
  LoadTile(blocks, kBlock32, tile.x);
  if constexpr (kWeighted) {
    LoadTile(importance, kBlock32, tile.w);
    NormalizeWeights(tile.w, kBlock32);
  }
}

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

// The inverse of a scale in ggml's plain rules. Where 1 / scale overflows, the stored scale is zero
// and all codes are to be 0, whatever the offset; a scale of zero has inverse 0.
struct PlainInverse {
  VFloat inverse;
  VFloat offset;
};
HWY_INLINE PlainInverse PlainInverseOf(VFloat scale, float offset) {
  const DFloat d;
  const auto reciprocal = hn::Div(hn::Set(d, 1.0f), scale);
  const auto usable =
      hn::Le(hn::Abs(reciprocal), hn::Set(d, hwy::HighestValue<float>()));
  const auto rounds = hn::Or(usable, hn::Eq(scale, hn::Zero(d)));
  return {hn::IfThenElseZero(usable, reciprocal),
          hn::IfThenElseZero(rounds, hn::Set(d, offset))};
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

struct ScaleAndMin {
  VFloat scale, min;  // values are scale * code + min
};

// Codes 0..kMostCode by ggml's rule for q4_1 and q5_1. The numbers returned are not yet rounded.
template <int kMostCode>
HWY_INLINE ScaleAndMin PlainAffine(Tile32& tile) {
  const DFloat d;
  const DInt di;
  auto least = tile.At(0), most = tile.At(0);
  for (size_t i = 1; i < kBlock32; ++i) {
    // Of zeros with different signs the first one stays, as with the comparisons of the rule.
    const auto x = tile.At(i);
    least = hn::IfThenElse(hn::Lt(x, least), x, least);
    most = hn::IfThenElse(hn::Gt(x, most), x, most);
  }
  const auto scale =
      hn::Div(hn::Sub(most, least), hn::Set(d, static_cast<float>(kMostCode)));
  const PlainInverse plain = PlainInverseOf(scale, 0.5f);
  for (size_t i = 0; i < kBlock32; ++i) {
    const auto t = hn::Add(hn::Mul(hn::Sub(tile.At(i), least), plain.inverse), plain.offset);
    tile.SetCode(i, hn::Min(hn::ConvertTo(di, t), hn::Set(di, kMostCode)));
  }
  return {scale, least};
}

// Finds a scale for codes least..most: tries to map the extreme to each of `reaches`, fits the scale
// to the codes, and keeps the one with the least error as stored; the first one (the plain rule's)
// unless another is clearly better. Leaves the codes, plus `bias`, in the tile,
// and returns the scale as it will be stored. kClamp: some reach lies outside least..most.
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
      const auto gain = hn::Mul(
          scale, hn::Sub(hn::Mul(hn::Set(d, 2.0f), xl[k]), hn::Mul(scale, l2[k])));
      const auto better = hn::Gt(gain, hn::Mul(best_gain, hn::Set(d, 1.0f + kLeastGain)));
      best_scale = hn::IfThenElse(better, scale, best_scale);
      best_gain = hn::IfThenElse(better, gain, best_gain);
    }
  }
  const auto inverse = SafeInverse(best_scale);
  for (size_t i = 0; i < kBlock32; ++i) {
    const auto l = RoundedCode(hn::Mul(tile.At(i), inverse), least, most);
    tile.SetCode(i, hn::Add(hn::ConvertTo(di, l), hn::Set(di, bias)));
  }
  return best_scale;
}

// Finds scale and minimum for codes 0..kMostCode, leaves the codes in the tile, and returns both as
// they will be stored.
template <bool kWeighted, int kMostCode>
HWY_NOINLINE ScaleAndMin SearchAffine32(Tile32& tile, const Cut* HWY_RESTRICT cuts, size_t n_cuts,
                                      size_t n_refinements) {
  const DFloat d;
  const DInt di;
  auto low = tile.At(0);
  for (size_t i = 1; i < kBlock32; ++i) low = hn::Min(low, tile.At(i));
  // Relative to the lowest weight, so that weights far from zero lose nothing.
  auto sw = hn::Zero(d), sx = hn::Zero(d);
  for (size_t i = 0; i < kBlock32; ++i) {
    const auto x = hn::Sub(tile.At(i), low);
    const auto w = kWeighted ? tile.WeightAt(i) : hn::Set(d, 1.0f);
    sw = hn::Add(sw, w);
    sx = hn::Add(sx, hn::Mul(w, x));
    tile.Set(i, x);
  }
  const AffineFit fit = FitAffine<kWeighted, true, kBlock32, kMostCode>(
      {tile.x, tile.w}, cuts, n_cuts, n_refinements, sw, sx);
  const auto scale = StorableScale(fit.scale);
  // The best minimum for the scale as stored.
  const auto above_low = SafeRatio(hn::Sub(sx, hn::Mul(scale, fit.sums.l)), sw);
  const auto min = StorableScale(hn::Add(low, above_low));
  const auto inverse = SafeInverse(scale);
  const auto shift = hn::Sub(low, min);
  for (size_t i = 0; i < kBlock32; ++i) {
    const auto t = hn::Mul(hn::Add(tile.At(i), shift), inverse);
    tile.SetCode(i, hn::ConvertTo(di, RoundedCode(t, 0.0f, kMostCode)));
  }
  return {scale, min};
}

// Stores the 16 bytes of each lane whose low nibbles are the low bits of elements 0..15, and whose
// high nibbles are those of elements 16..31.
HWY_INLINE void StoreNibbles(const Tile32& tile, uint8_t* HWY_RESTRICT out, size_t stride_bytes) {
  const DUint du;
  VUint words[4];
  const auto low_bits = hn::Set(du, 15);
  for (size_t j = 0; j < 4; ++j) {
    words[j] = hn::Zero(du);
    for (size_t k = 4; k-- > 0;) {
      const auto low = hn::And(tile.CodeAt(4 * j + k), low_bits);
      const auto high = hn::And(tile.CodeAt(16 + 4 * j + k), low_bits);
      words[j] = hn::Or(hn::ShiftLeft<8>(words[j]), hn::Or(low, hn::ShiftLeft<4>(high)));
    }
  }
  StoreWords(words[0], words[1], words[2], words[3], out, stride_bytes);
}

// Returns the words whose bit k is bit 4 of the code of element k.
HWY_INLINE VUint FifthBits(const Tile32& tile) {
  const DUint du;
  auto bits = hn::Zero(du);
  for (size_t k = kBlock32; k-- > 0;) {
    bits = hn::Or(hn::Add(bits, bits), hn::ShiftRight<4>(tile.CodeAt(k)));
  }
  return bits;
}

}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
