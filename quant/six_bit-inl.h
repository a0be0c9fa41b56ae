// The header that q4_k and q5_k share: d, dmin, and eight six-bit scales and minima in 12 bytes.
// Source: quant/BLOCKS.md, "q4_k".

// Per-target include guard.
#if defined(QUERN_QUANT_SIX_BIT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QUERN_QUANT_SIX_BIT_INL_H_
#undef QUERN_QUANT_SIX_BIT_INL_H_
#else
#define QUERN_QUANT_SIX_BIT_INL_H_
#endif

#include <hwy/highway.h>

#include "formats/core/bytes.h"
#include "formats/core/half.h"
#include "quant/affine_super-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {

// Stores the 16 bytes of each lane's header.
HWY_INLINE void StoreSixBitHeader(const AffineSuper<8>& super, uint8_t* HWY_RESTRICT out,
                                  size_t stride_bytes) {
  const DFloat d;
  const DInt di;
  const DUint du;
  VUint codes[8], mins[8];
  for (size_t s = 0; s < 8; ++s) {
    codes[s] = hn::BitCast(du, hn::ConvertTo(di, super.codes[s]));
    mins[s] = hn::BitCast(du, hn::ConvertTo(di, super.mins[s]));
  }
  auto first = hn::Zero(du), second = hn::Zero(du), third = hn::Zero(du);
  const auto low = hn::Set(du, 15);
  for (size_t s = 4; s-- > 0;) {
    const auto high_code = hn::ShiftLeft<6>(hn::ShiftRight<4>(codes[s + 4]));
    const auto high_min = hn::ShiftLeft<6>(hn::ShiftRight<4>(mins[s + 4]));
    const auto lows = hn::Or(hn::And(codes[s + 4], low), hn::ShiftLeft<4>(hn::And(mins[s + 4], low)));
    first = hn::Or(hn::ShiftLeft<8>(first), hn::Or(codes[s], high_code));
    second = hn::Or(hn::ShiftLeft<8>(second), hn::Or(mins[s], high_min));
    third = hn::Or(hn::ShiftLeft<8>(third), lows);
  }
  const auto numbers =
      hn::Or(F16BitsFromF32(d, super.d), hn::ShiftLeft<16>(F16BitsFromF32(d, super.dmin)));
  StoreWords(numbers, first, second, third, out, stride_bytes);
}

struct SixBitScales {
  float scale[8], min[8];
};

HWY_INLINE SixBitScales LoadSixBitHeader(const uint8_t* HWY_RESTRICT block) {
  const float d = F16ToF32(LoadLE<uint16_t>(block));
  const float dmin = F16ToF32(LoadLE<uint16_t>(block + 2));
  const uint32_t first = LoadLE<uint32_t>(block + 4);
  const uint32_t second = LoadLE<uint32_t>(block + 8);
  const uint32_t third = LoadLE<uint32_t>(block + 12);
  // Four six-bit numbers in the bytes of a word.
  const uint32_t words[4] = {first & 0x3F3F3F3Fu,
                             (third & 0x0F0F0F0Fu) | (first >> 2 & 0x30303030u),
                             second & 0x3F3F3F3Fu,
                             (third >> 4 & 0x0F0F0F0Fu) | (second >> 2 & 0x30303030u)};
  SixBitScales scales;
  for (size_t s = 0; s < 8; ++s) {
    scales.scale[s] = d * static_cast<float>(words[s / 4] >> 8 * (s % 4) & 255u);
    scales.min[s] = dmin * static_cast<float>(words[2 + s / 4] >> 8 * (s % 4) & 255u);
  }
  return scales;
}

}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
