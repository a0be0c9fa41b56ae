// q2_k: 256 two-bit codes in sixteen sub-blocks, with four-bit scales and minima.
//
// The encoder aims at the least squared error, weighted by importance where there is any.
// Source: quant/BLOCKS.md, "q2_k".
#include "formats/core/bytes.h"
#include "formats/core/half.h"
#include "quant/codec.h"
#include "quant/codec_export.h"
#include "quant/codec_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/q2_k.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "quant/affine_super-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kElems = 256, kBytes = 84, kSubs = 16;

// Found by greedy search over four sets of weights.
constexpr Cut kCuts[] = {{.3f, .3f},  {-.1f, .4f},  {.4f, -.1f}, {-.6f, .4f},
                         {.1f, .4f},  {.4f, .1f},   {.4f, -.3f}, {-.4f, .4f},
                         {-.1f, -.2f}, {.4f, .4f},  {.4f, -.5f}, {.2f, .4f},
                         {.4f, .2f},  {-.8f, .1f},  {-.5f, .4f}, {-.2f, .4f}};

AffineEffort EffortOf(Effort effort) {
  if (effort == Effort::kFast) return {kCuts, 4, 1, 0, 0};
  if (effort == Effort::kNormal) return {kCuts, 8, 2, 1, 1};
  return {kCuts, 16, 2, 4, 2};
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
    EmphasizeLargeWeights(x, kElems, 1.0f, w);
  }
  AffineSuper<kSubs> super;
  SearchAffine<kWeighted, kSubs, 3, 15>(x, kWeighted ? w : nullptr, effort, super);
  const auto code = [&](size_t i) HWY_ATTR {
    return hn::BitCast(du, hn::ConvertTo(di, hn::Load(d, x + i * kN)));
  };
  // Byte g holds scale and minimum of sub-block g.
  const auto scale_word = [&](size_t g) HWY_ATTR {
    auto bytes = hn::Zero(du);
    for (size_t k = 4; k-- > 0;) {
      const auto low = hn::BitCast(du, hn::ConvertTo(di, super.codes[g + k]));
      const auto high = hn::ShiftLeft<4>(hn::BitCast(du, hn::ConvertTo(di, super.mins[g + k])));
      bytes = hn::Or(hn::ShiftLeft<8>(bytes), hn::Or(low, high));
    }
    return bytes;
  };
  StoreWords(scale_word(0), scale_word(4), scale_word(8), scale_word(12), out, kBytes);
  // Byte 32 n + l holds elements 128 n + 32 j + l, two bits each.
  const auto word = [&](size_t n, size_t l) HWY_ATTR {
    auto bytes = hn::Zero(du);
    for (size_t k = 4; k-- > 0;) {
      auto bits = hn::Zero(du);
      for (size_t j = 4; j-- > 0;) {
        bits = hn::Or(hn::ShiftLeft<2>(bits), code(128 * n + 32 * j + l + k));
      }
      bytes = hn::Or(hn::ShiftLeft<8>(bytes), bits);
    }
    return bytes;
  };
  for (size_t n = 0; n < 2; ++n) {
    for (size_t l = 0; l < 32; l += 16) {
      StoreWords(word(n, l), word(n, l + 4), word(n, l + 8), word(n, l + 12),
                 out + 16 + 32 * n + l, kBytes);
    }
  }
  StoreLanes<4>(
      hn::Or(F16BitsFromF32(d, super.d), hn::ShiftLeft<16>(F16BitsFromF32(d, super.dmin))),
      out + 80, kBytes);
}

void EncodeQ2K(const EncodeInput& in, uint8_t* out) {
  const AffineEffort effort = EffortOf(in.effort);
  ForEachBatch<kElems, kBytes>(
      in, out, [&](const float* x, const float* w, uint8_t* blocks) HWY_ATTR {
        w != nullptr ? EncodeBatch<true>(x, w, effort, blocks)
                     : EncodeBatch<false>(x, w, effort, blocks);
      });
}

void DecodeQ2K(const uint8_t* blocks, uint64_t n_elems, float* out) {
  const DFloat d;
  const DInt di;
  const hn::Rebind<uint8_t, DFloat> d8;
  const auto two_bits = hn::Set(di, 3);
  for (const float* end = out + n_elems; out != end; out += kElems, blocks += kBytes) {
    const float scale = F16ToF32(LoadLE<uint16_t>(blocks + 80));
    const float min = F16ToF32(LoadLE<uint16_t>(blocks + 82));
    for (size_t g = 0; g < kSubs; ++g) {
      const auto sub_scale = hn::Set(d, scale * static_cast<float>(blocks[g] & 15));
      const auto sub_min = hn::Set(d, min * static_cast<float>(blocks[g] >> 4));
      const size_t n = g / 8, j = g % 8 / 2;
      for (size_t l = 0; l < 16; l += hn::Lanes(d)) {
        const auto packed =
            hn::PromoteTo(di, hn::LoadU(d8, blocks + 16 + 32 * n + 16 * (g % 2) + l));
        const auto q = hn::And(hn::ShiftRightSame(packed, static_cast<int>(2 * j)), two_bits);
        const auto y = hn::Sub(hn::Mul(sub_scale, hn::ConvertTo(d, q)), sub_min);
        hn::StoreU(y, d, out + 16 * g + l);
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

constexpr size_t kElems = 256, kBytes = 84;

void DecodeScalar(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  for (uint64_t k = 0; k < n_elems; ++k) {
    const uint8_t* block = blocks + k / kElems * kBytes;
    const size_t i = k % kElems;
    const int scales = block[i / 16];
    const int q = block[16 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
    const float scale = F16ToF32(LoadLE<uint16_t>(block + 80)) * static_cast<float>(scales & 15);
    const float offset = F16ToF32(LoadLE<uint16_t>(block + 82)) * static_cast<float>(scales >> 4);
    out[k] = scale * static_cast<float>(q) - offset;
  }
}

QUERN_EXPORT_KERNELS(Q2K);

}  // namespace

const BlockCodec kCodecQ2K = {DType::kQ2_K, 65504.0f * 15.0f, Encode,
                              Decode,       EncodeStatic,     DecodeScalar};

}  // namespace quern
#endif  // HWY_ONCE
