// Types of 32 codes, one scale and one minimum: q4_1 and q5_1.

// Per-target include guard.
#if defined(QUERN_QUANT_AFFINE32_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QUERN_QUANT_AFFINE32_INL_H_
#undef QUERN_QUANT_AFFINE32_INL_H_
#else
#define QUERN_QUANT_AFFINE32_INL_H_
#endif

#include <hwy/highway.h>

#include <span>

#include "formats/core/bytes.h"
#include "formats/core/half.h"
#include "quant/block32-inl.h"
#include "quant/codec.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {

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
  const auto scale = hn::Div(hn::Sub(most, least), hn::Set(d, static_cast<float>(kMostCode)));
  const PlainInverse plain = PlainInverseOf(scale, 0.5f);
  for (size_t i = 0; i < kBlock32; ++i) {
    const auto t = hn::Add(hn::Mul(hn::Sub(tile.At(i), least), plain.inverse), plain.offset);
    tile.SetCode(i, hn::Min(hn::ConvertTo(di, t), hn::Set(di, kMostCode)));
  }
  return {scale, least};
}

// Finds scale and minimum for codes 0..kMostCode, leaves the codes in the tile, and returns both as
// they will be stored.
template <bool kWeighted, int kMostCode>
HWY_NOINLINE ScaleAndMin SearchAffine32(Tile32& tile, const Cut* HWY_RESTRICT cuts, size_t n_cuts,
                                        size_t n_refinements) {
  const DFloat d;
  const DInt di;
  auto low = tile.At(0), high = low;
  for (size_t i = 1; i < kBlock32; ++i) {
    low = hn::Min(low, tile.At(i));
    high = hn::Max(high, tile.At(i));
  }
  // Relative to the lowest weight, so that weights far from zero lose nothing.
  auto sw = kWeighted ? hn::Zero(d) : hn::Set(d, static_cast<float>(kBlock32));
  auto sx = hn::Zero(d);
  for (size_t i = 0; i < kBlock32; ++i) {
    const auto x = hn::Sub(tile.At(i), low);
    if constexpr (kWeighted) {
      sw = hn::Add(sw, tile.WeightAt(i));
      sx = hn::Add(sx, hn::Mul(tile.WeightAt(i), x));
    } else {
      sx = hn::Add(sx, x);
    }
    tile.Set(i, x);
  }
  const AffineFit fit = FitAffine<kWeighted, true, kBlock32, kMostCode>(
      {tile.x, tile.w}, cuts, n_cuts, n_refinements, sw, sx, hn::Zero(d), hn::Sub(high, low));
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

// q4_1 (kBits 4) and q5_1: a scale, a minimum, then codes.
template <int kBits>
struct Affine32 {
  static constexpr size_t kBytes = 4 + kBlock32 * kBits / 8;
  static constexpr int kMostCode = (1 << kBits) - 1;

  static void Store(const Tile32& tile, const ScaleAndMin& numbers, uint8_t* HWY_RESTRICT out) {
    const auto scale_bits = F16BitsFromF32(DFloat(), numbers.scale);
    const auto min_bits = F16BitsFromF32(DFloat(), numbers.min);
    StoreLanes<4>(hn::Or(scale_bits, hn::ShiftLeft<16>(min_bits)), out, kBytes);
    StoreCodes<kBits>(tile, out + 4, kBytes);
  }

  static void EncodePlain(const float* HWY_RESTRICT blocks, uint8_t* HWY_RESTRICT out) {
    Tile32 tile;
    LoadTile32<false>(blocks, nullptr, tile);
    const ScaleAndMin numbers = PlainAffine<kMostCode>(tile);
    Store(tile, numbers, out);
  }

  template <bool kWeighted>
  static void EncodeSearched(const float* HWY_RESTRICT blocks, const float* HWY_RESTRICT importance,
                             Effort effort, std::span<const Cut> cuts, uint8_t* HWY_RESTRICT out) {
    Tile32 tile;
    LoadTile32<kWeighted>(blocks, importance, tile);
    const bool more = effort == Effort::kBest;
    const size_t n_cuts = more ? cuts.size() : effort == Effort::kNormal && kWeighted ? 8 : 4;
    const ScaleAndMin numbers =
        SearchAffine32<kWeighted, kMostCode>(tile, cuts.data(), n_cuts, more ? 2 : 1);
    Store(tile, numbers, out);
  }

  static HWY_INLINE void Encode(const EncodeInput& in, std::span<const Cut> cuts, uint8_t* out) {
    EncodeBlocks32<kBytes>(
        in, EncodePlain,
        [&](auto weighted, const float* x, const float* w, uint8_t* blocks)
            HWY_ATTR { EncodeSearched<weighted>(x, w, in.effort, cuts, blocks); },
        out);
  }

  static HWY_INLINE void Decode(const uint8_t* blocks, uint64_t n_elems, float* out) {
    const DFloat d;
    for (const float* end = out + n_elems; out != end; out += kBlock32, blocks += kBytes) {
      const auto scale = hn::Set(d, F16ToF32(LoadLE<uint16_t>(blocks)));
      const auto min = hn::Set(d, F16ToF32(LoadLE<uint16_t>(blocks + 2)));
      const auto value_of = [&](VInt code) HWY_ATTR {
        return hn::Add(hn::Mul(hn::ConvertTo(d, code), scale), min);
      };
      DecodeCodes<kBits>(blocks + 4, value_of, out);
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
