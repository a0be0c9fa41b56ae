// q5_k: 256 five-bit codes in eight sub-blocks, with six-bit scales and minima.
//
// The encoder aims at the least squared error, weighted by importance where there is any.
// Source: quant/BLOCKS.md, "q5_k".
#include "formats/core/bytes.h"
#include "formats/core/half.h"
#include "quant/codec.h"
#include "quant/codec_export.h"
#include "quant/codec_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/q5_k.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "quant/affine_super-inl.h"
#include "quant/six_bit-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kElems = 256, kBytes = 176, kSubs = 8;

// Found by greedy search over five sets of weights.
constexpr Cut kCuts[] = {{0, .1f},      {0, -.9f},  {.2f, -.2f}, {-1.1f, -1}, {-.2f, .2f},
                         {.2f, -1.2f},  {-2, -1},   {.1f, 0},    {-1.2f, -1.9f}, {-1.2f, .3f}};

AffineEffort EffortOf(Effort effort) {
  if (effort == Effort::kFast) return {kCuts, 4, 0, 0, 0};
  if (effort == Effort::kNormal) return {kCuts, 8, 1, 1, 1};
  return {kCuts, 10, 1, 4, 2};
}

template <bool kWeighted>
void EncodeBatch(const float* HWY_RESTRICT blocks, const float* HWY_RESTRICT importance,
                 const AffineEffort& effort, uint8_t* HWY_RESTRICT out) {
  const DFloat d;
  const DInt di;
  const DUint du;
  constexpr size_t kN = LaneCount();
  HWY_ALIGN float x[kElems * kN];
  HWY_ALIGN float w[kWeighted ? kElems * kN : 1];
  LoadTile(blocks, kElems, x);
  if constexpr (kWeighted) {
    LoadTile(importance, kElems, w);
    NormalizeWeights(w, kElems);
  }
  AffineSuper<kSubs> super;
  SearchAffine<kWeighted, kSubs, 31, 63>(x, kWeighted ? w : nullptr, effort, super);
  StoreSixBitHeader(super, out, kBytes);
  const auto code = [&](size_t i) HWY_ATTR {
    return hn::BitCast(du, hn::ConvertTo(di, hn::Load(d, x + i * kN)));
  };
  const auto low_bits = hn::Set(du, 15);
  // Byte 32 c + l holds the low bits of elements 64 c + l and 64 c + 32 + l.
  const auto low_word = [&](size_t c, size_t l) HWY_ATTR {
    auto bytes = hn::Zero(du);
    for (size_t k = 4; k-- > 0;) {
      const auto low = hn::And(code(64 * c + l + k), low_bits);
      const auto high = hn::ShiftLeft<4>(hn::And(code(64 * c + 32 + l + k), low_bits));
      bytes = hn::Or(hn::ShiftLeft<8>(bytes), hn::Or(low, high));
    }
    return bytes;
  };
  // Bit s of byte l is bit 4 of element 32 s + l.
  const auto high_word = [&](size_t l) HWY_ATTR {
    auto bytes = hn::Zero(du);
    for (size_t k = 4; k-- > 0;) {
      auto bits = hn::Zero(du);
      for (size_t s = kSubs; s-- > 0;) {
        bits = hn::Or(hn::Add(bits, bits), hn::ShiftRight<4>(code(32 * s + l + k)));
      }
      bytes = hn::Or(hn::ShiftLeft<8>(bytes), bits);
    }
    return bytes;
  };
  for (size_t l = 0; l < 32; l += 16) {
    StoreWords(high_word(l), high_word(l + 4), high_word(l + 8), high_word(l + 12), out + 16 + l,
               kBytes);
  }
  for (size_t c = 0; c < 4; ++c) {
    for (size_t l = 0; l < 32; l += 16) {
      StoreWords(low_word(c, l), low_word(c, l + 4), low_word(c, l + 8), low_word(c, l + 12),
                 out + 48 + 32 * c + l, kBytes);
    }
  }
}

void EncodeQ5K(const EncodeInput& in, uint8_t* out) {
  const AffineEffort effort = EffortOf(in.effort);
  ForEachBatch<kElems, kBytes>(
      in, out, [&](const float* x, const float* w, uint8_t* blocks) HWY_ATTR {
        w != nullptr ? EncodeBatch<true>(x, w, effort, blocks)
                     : EncodeBatch<false>(x, w, effort, blocks);
      });
}

void DecodeQ5K(const uint8_t* blocks, uint64_t n_elems, float* out) {
  const DFloat d;
  const DInt di;
  const hn::Rebind<uint8_t, DFloat> d8;
  for (const float* end = out + n_elems; out != end; out += kElems, blocks += kBytes) {
    const SixBitScales scales = LoadSixBitHeader(blocks);
    for (size_t c = 0; c < 4; ++c) {
      const auto low_scale = hn::Set(d, scales.scale[2 * c]);
      const auto low_min = hn::Set(d, scales.min[2 * c]);
      const auto high_scale = hn::Set(d, scales.scale[2 * c + 1]);
      const auto high_min = hn::Set(d, scales.min[2 * c + 1]);
      for (size_t l = 0; l < 32; l += hn::Lanes(d)) {
        const auto packed = hn::PromoteTo(di, hn::LoadU(d8, blocks + 48 + 32 * c + l));
        // Bits 2 c and 2 c + 1 of qh, brought to bit 4.
        const auto qh = hn::PromoteTo(di, hn::LoadU(d8, blocks + 16 + l));
        const auto high_bits = hn::ShiftRightSame(hn::ShiftLeft<4>(qh), static_cast<int>(2 * c));
        const auto bit4 = hn::Set(di, 16);
        const auto low = hn::ConvertTo(
            d, hn::Or(hn::And(packed, hn::Set(di, 15)), hn::And(high_bits, bit4)));
        const auto high = hn::ConvertTo(
            d, hn::Or(hn::ShiftRight<4>(packed), hn::And(hn::ShiftRight<1>(high_bits), bit4)));
        hn::StoreU(hn::Sub(hn::Mul(low_scale, low), low_min), d, out + 64 * c + l);
        hn::StoreU(hn::Sub(hn::Mul(high_scale, high), high_min), d, out + 64 * c + 32 + l);
      }
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quern {
namespace {

constexpr size_t kElems = 256, kBytes = 176;

void DecodeScalar(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  for (uint64_t k = 0; k < n_elems; ++k) {
    const uint8_t* block = blocks + k / kElems * kBytes;
    const uint8_t* scales = block + 4;
    const size_t i = k % kElems, s = i / 32;
    const int code = s < 4 ? scales[s] & 63 : (scales[s + 4] & 15) | (scales[s - 4] >> 6) << 4;
    const int min = s < 4 ? scales[s + 4] & 63 : (scales[s + 4] >> 4) | (scales[s] >> 6) << 4;
    const int packed = block[48 + i / 64 * 32 + i % 32];
    const int q = (s % 2 == 0 ? packed & 15 : packed >> 4) | (block[16 + i % 32] >> s & 1) << 4;
    const float scale = F16ToF32(LoadLE<uint16_t>(block)) * static_cast<float>(code);
    const float offset = F16ToF32(LoadLE<uint16_t>(block + 2)) * static_cast<float>(min);
    out[k] = scale * static_cast<float>(q) - offset;
  }
}

QUERN_EXPORT_KERNELS(Q5K);

}  // namespace

const BlockCodec kCodecQ5K = {DType::kQ5_K, 65504.0f * 63.0f, Encode,
                              Decode,       EncodeStatic,     DecodeScalar};

}  // namespace quern
#endif  // HWY_ONCE
