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
#include "quant/magnitude-inl.h"

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

// Folds the lanes of `v` onto at most four of them.
template <class D, class Fold>
HWY_INLINE auto Folded([[maybe_unused]] D d, hn::Vec<D> v, [[maybe_unused]] const Fold& fold) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (hn::MaxLanes(D()) > 4) {
    const hn::Half<D> dh;
    return Folded(dh, fold(hn::LowerHalf(dh, v), hn::UpperHalf(dh, v)), fold);
  } else
#endif
    return v;
}

// The least and the largest element of LaneCount() blocks, one block per lane.
struct Ranges {
  VFloat least, most;
};
HWY_INLINE Ranges RangesOf(const float* HWY_RESTRICT blocks) {
  const DFloat d;
  constexpr size_t kN = LaneCount();
  constexpr size_t kFolded = HWY_MIN(kN, 4);
  const hn::CappedTag<float, kFolded> d4;
  HWY_ALIGN float least[kN * kFolded], most[kN * kFolded];
  HWY_ALIGN float least_tile[kN * kFolded], most_tile[kN * kFolded];
  for (size_t r = 0; r < kN; ++r) {
    auto low = hn::LoadU(d, blocks + r * kBlock32), high = low;
    for (size_t i = kN; i < kBlock32; i += kN) {
      const auto x = hn::LoadU(d, blocks + r * kBlock32 + i);
      low = hn::Min(low, x);
      high = hn::Max(high, x);
    }
    const auto min = [](auto a, auto b) HWY_ATTR { return hn::Min(a, b); };
    const auto max = [](auto a, auto b) HWY_ATTR { return hn::Max(a, b); };
    hn::Store(Folded(d, low, min), d4, least + r * kFolded);
    hn::Store(Folded(d, high, max), d4, most + r * kFolded);
  }
  LoadTile(least, kFolded, least_tile);
  LoadTile(most, kFolded, most_tile);
  Ranges ranges{hn::Load(d, least_tile), hn::Load(d, most_tile)};
  for (size_t k = 1; k < kFolded; ++k) {
    ranges.least = hn::Min(ranges.least, hn::Load(d, least_tile + k * kN));
    ranges.most = hn::Max(ranges.most, hn::Load(d, most_tile + k * kN));
  }
  return ranges;
}

// Returns a word whose bits are those of `mask`.
template <class Mask>
HWY_INLINE uint32_t BitsOf(Mask mask) {
  using Bits = std::conditional_t<(LaneCount() > 8), uint16_t, uint8_t>;
  Bits bits = 0;
  hn::StoreMaskBits(DInt(), mask, reinterpret_cast<uint8_t*>(&bits));
  return bits;
}

// Returns scale and minimum for blocks whose weights are all 0 or `magnitude`, with either sign.
template <bool kWeighted, int kMostCode>
HWY_NOINLINE ScaleAndMin NumbersOfMagnitude(const Tile32& tile, VFloat magnitude) {
  const DFloat d;
  const auto zero = hn::Zero(d);
  const SignSums sums = SumsBySign<kWeighted>({tile.x, tile.w}, kBlock32);
  const auto most_code = hn::Set(d, static_cast<float>(kMostCode));
  // One sign: the minimum is 0, so that zeros stay exact.
  const auto sign = hn::Sub(sums.plus, sums.minus);
  const Product one_sign = NearestProduct(magnitude, most_code, kMostCode, 1);
  ScaleAndMin numbers{hn::CopySign(one_sign.scale, sign), zero};
  // A constant: the minimum is as near as it can be, and code 1 adds what is missing.
  const auto constant = hn::CopySign(magnitude, sign);
  const auto nearest = StorableScale(constant);
  const auto is_constant =
      hn::And(hn::Eq(sums.zero, zero), hn::Eq(hn::Min(sums.minus, sums.plus), zero));
  numbers.scale =
      hn::IfThenElse(is_constant, StorableScale(hn::Sub(constant, nearest)), numbers.scale);
  numbers.min = hn::IfThenElseZero(is_constant, nearest);
  // Both signs: code 0 is -magnitude, code h zero if there is any, and code 2 h the magnitude.
  const auto low = StorableScale(magnitude);
  const auto reach = hn::Add(low, magnitude);
  const Product no_zeros = NearestProduct(reach, most_code, kMostCode, 1);
  const auto wanted =
      hn::Add(hn::Mul(sums.zero, low), hn::Mul(hn::Add(sums.plus, sums.plus), reach));
  const auto target = SafeRatio(wanted, hn::Add(sums.zero, hn::Mul(hn::Set(d, 4.0f), sums.plus)));
  const Product with_zeros = NearestProduct(target, hn::Set(d, kMostCode / 2), kMostCode / 2, 1);
  const auto both_scale = hn::IfThenElse(hn::Gt(sums.zero, zero), with_zeros.scale, no_zeros.scale);
  const auto has_both = hn::And(hn::Gt(sums.minus, zero), hn::Gt(sums.plus, zero));
  numbers.scale = hn::IfThenElse(has_both, both_scale, numbers.scale);
  numbers.min = hn::IfThenElse(has_both, hn::Neg(low), numbers.min);
  return numbers;
}

// Finds scale and minimum for codes 0..kMostCode, leaves the codes in the tile, and returns both as
// they will be stored.
template <bool kWeighted, int kMostCode>
HWY_NOINLINE ScaleAndMin SearchAffine32(Tile32& tile, const Cut* HWY_RESTRICT cuts, size_t n_cuts,
                                        size_t n_refinements) {
  const DFloat d;
  const DInt di;
  const auto magnitude = CommonMagnitude(tile.x, kBlock32);
  const auto is_common = hn::Gt(magnitude, hn::Zero(d));
  ScaleAndMin common{hn::Zero(d), hn::Zero(d)};
  if (!hn::AllFalse(d, is_common)) {
    common = NumbersOfMagnitude<kWeighted, kMostCode>(tile, magnitude);
  }
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
  const auto scale = hn::IfThenElse(is_common, common.scale, StorableScale(fit.scale));
  // The best minimum for the scale as stored.
  const auto above_low = SafeRatio(hn::Sub(sx, hn::Mul(scale, fit.sums.l)), sw);
  const auto min = hn::IfThenElse(is_common, common.min, StorableScale(hn::Add(low, above_low)));
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

  // The plain rule on blocks as they lie in memory. Returns false where a block's least weight is a
  // zero, since its sign depends on the order in which zeros of both signs come.
  static HWY_INLINE bool EncodePlainRows(const float* HWY_RESTRICT blocks,
                                         uint8_t* HWY_RESTRICT out) {
    const DFloat d;
    const DInt di;
    const hn::Rebind<uint8_t, DInt> d8;
    constexpr size_t kN = LaneCount();
    const Ranges ranges = RangesOf(blocks);
    if (!hn::AllFalse(d, hn::Eq(ranges.least, hn::Zero(d)))) return false;
    const auto scale =
        hn::Div(hn::Sub(ranges.most, ranges.least), hn::Set(d, static_cast<float>(kMostCode)));
    const PlainInverse plain = PlainInverseOf(scale, 0.5f);
    const auto scale_bits = F16BitsFromF32(d, scale);
    const auto min_bits = F16BitsFromF32(d, ranges.least);
    StoreLanes<4>(hn::Or(scale_bits, hn::ShiftLeft<16>(min_bits)), out, kBytes);
    HWY_ALIGN float least[kN], inverse[kN], offset[kN];
    hn::Store(ranges.least, d, least);
    hn::Store(plain.inverse, d, inverse);
    hn::Store(plain.offset, d, offset);
    for (size_t r = 0; r < kN; ++r, blocks += kBlock32, out += kBytes) {
      const auto code_of = [&](size_t i) HWY_ATTR {
        const auto above = hn::Sub(hn::LoadU(d, blocks + i), hn::Set(d, least[r]));
        const auto t = hn::Add(hn::Mul(above, hn::Set(d, inverse[r])), hn::Set(d, offset[r]));
        return hn::Min(hn::ConvertTo(di, t), hn::Set(di, kMostCode));
      };
      uint32_t fifth_bits = 0;
      for (size_t i = 0; i < kBlock32 / 2; i += kN) {
        auto low = code_of(i), high = code_of(kBlock32 / 2 + i);
        if constexpr (kBits == 5) {
          const auto low_bits = hn::Set(di, 15);
          fifth_bits |= BitsOf(hn::Gt(low, low_bits)) << i;
          fifth_bits |= BitsOf(hn::Gt(high, low_bits)) << (kBlock32 / 2 + i);
          low = hn::And(low, low_bits);
          high = hn::And(high, low_bits);
        }
        const auto packed = hn::Or(low, hn::ShiftLeft<4>(high));
        hn::StoreU(hn::DemoteTo(d8, packed), d8, out + kBytes - kBlock32 / 2 + i);
      }
      if constexpr (kBits == 5) StoreLE(out + 4, fifth_bits);
    }
    return true;
  }

  static void EncodePlain(const float* HWY_RESTRICT blocks, uint8_t* HWY_RESTRICT out) {
    if (EncodePlainRows(blocks, out)) return;
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
    const size_t n_cuts = more ? cuts.size() : effort == Effort::kNormal && kWeighted ? 16 : 4;
    const ScaleAndMin numbers =
        SearchAffine32<kWeighted, kMostCode>(tile, cuts.data(), n_cuts, more ? 2 : 1);
    Store(tile, numbers, out);
  }

  static HWY_INLINE void Encode(const EncodeInput& in, std::span<const Cut> cuts,
                                std::span<const Cut> weighted_cuts, uint8_t* out) {
    EncodeBlocks32<kBytes>(
        in, EncodePlain,
        [&](auto weighted, const float* x, const float* w, uint8_t* blocks) HWY_ATTR {
          EncodeSearched<weighted>(x, w, in.effort, weighted ? weighted_cuts : cuts, blocks);
        },
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
