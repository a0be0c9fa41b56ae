// What the types with 32 elements per block share: tiles of them, one block per lane, and the
// packing of codes. See scale_search-inl.h for the rules of such code.

// Per-target include guard.
#if defined(QUERN_QUANT_BLOCK32_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QUERN_QUANT_BLOCK32_INL_H_
#undef QUERN_QUANT_BLOCK32_INL_H_
#else
#define QUERN_QUANT_BLOCK32_INL_H_
#endif

#include <hwy/highway.h>

#include <type_traits>

#include "formats/core/bytes.h"
#include "quant/codec.h"
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

// The inverse of a scale in ggml's plain rules. Where 1 / scale overflows, the stored scale is zero
// and all codes are to be 0, whatever the offset; a scale of zero has inverse 0.
struct PlainInverse {
  VFloat inverse;
  VFloat offset;
};
HWY_INLINE PlainInverse PlainInverseOf(VFloat scale, float offset) {
  const DFloat d;
  const auto reciprocal = hn::Div(hn::Set(d, 1.0f), scale);
  const auto usable = hn::Le(hn::Abs(reciprocal), hn::Set(d, hwy::HighestValue<float>()));
  const auto rounds = hn::Or(usable, hn::Eq(scale, hn::Zero(d)));
  return {hn::IfThenElseZero(usable, reciprocal), hn::IfThenElseZero(rounds, hn::Set(d, offset))};
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

// Stores the codes of each lane's block: five-bit codes begin with a word of their fifth bits; then
// the nibbles.
template <int kBits>
HWY_INLINE void StoreCodes(const Tile32& tile, uint8_t* HWY_RESTRICT out, size_t stride_bytes) {
  static_assert(kBits == 4 || kBits == 5);
  if constexpr (kBits == 5) {
    StoreLanes<4>(FifthBits(tile), out, stride_bytes);
    out += 4;
  }
  StoreNibbles(tile, out, stride_bytes);
}

// Decodes the 32 codes that StoreCodes wrote for one block; value_of turns vectors of codes into
// values.
template <int kBits, class ValueOf>
HWY_INLINE void DecodeCodes(const uint8_t* HWY_RESTRICT codes, ValueOf value_of,
                            float* HWY_RESTRICT out) {
  static_assert(kBits == 4 || kBits == 5);
  const DFloat d;
  const DInt di;
  const hn::Rebind<uint8_t, DFloat> d8;
  const uint8_t* const nibbles = codes + (kBits == 5 ? 4 : 0);
  for (size_t i = 0; i < kBlock32 / 2; i += hn::Lanes(d)) {
    const auto packed = hn::PromoteTo(di, hn::LoadU(d8, nibbles + i));
    auto low = hn::And(packed, hn::Set(di, 15));
    auto high = hn::ShiftRight<4>(packed);
    if constexpr (kBits == 5) {
      // Brings bit i of the fifth bits, and bit i + 16, to bit 4.
      const auto place = hn::Add(hn::Iota(di, 0), hn::Set(di, static_cast<int32_t>(i)));
      const auto bits = hn::Shr(hn::Set(di, LoadLE<int32_t>(codes)), place);
      const auto bit4 = hn::Set(di, 16);
      low = hn::Or(low, hn::And(hn::ShiftLeft<4>(bits), bit4));
      high = hn::Or(high, hn::And(hn::ShiftRight<12>(bits), bit4));
    }
    hn::StoreU(value_of(low), d, out + i);
    hn::StoreU(value_of(high), d, out + kBlock32 / 2 + i);
  }
}

// Encodes by plain(x, out) where the rule is ggml's, else by searched(weighted, x, importance,
// out), of which the first is std::true_type if there is importance; each makes LaneCount() blocks.
template <size_t kBytes, class Plain, class Searched>
HWY_INLINE void EncodeBlocks32(const EncodeInput& in, Plain plain, Searched searched,
                               uint8_t* out) {
  ForEachBatch<kBlock32, kBytes>(in, out,
                                 [&](const float* x, const float* w, uint8_t* blocks) HWY_ATTR {
                                   if (w != nullptr) {
                                     searched(std::true_type(), x, w, blocks);
                                   } else if (in.effort == Effort::kFast) {
                                     plain(x, blocks);
                                   } else {
                                     searched(std::false_type(), x, nullptr, blocks);
                                   }
                                 });
}

}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
