// q3_k: 256 three-bit codes in sixteen sub-blocks, with six-bit scales.
//
// The encoder aims at the least squared error, weighted by importance where there is any.
// Source: quant/BLOCKS.md, "q3_k".
#include "formats/core/bytes.h"
#include "formats/core/half.h"
#include "quant/codec.h"
#include "quant/codec_export.h"
#include "quant/codec_rows.h"

#ifndef QUERN_QUANT_Q3_K_ONCE
#define QUERN_QUANT_Q3_K_ONCE
namespace quern {
namespace {

// Returns the scale of sub-block g from the 12 bytes that hold sixteen.
inline int ScaleOf(const uint8_t* scales, size_t g) {
  const int low = g < 8 ? scales[g] & 15 : scales[g - 8] >> 4;
  const int high = scales[8 + g % 4] >> 2 * (g / 4) & 3;
  return (low | high << 4) - 32;
}

}  // namespace
}  // namespace quern
#endif  // QUERN_QUANT_Q3_K_ONCE

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/q3_k.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "quant/grid_search-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kElems = 256, kBytes = 110;

constexpr GridRange kRange = {-4, 3, -32, 31};

// Found by trial on four sets of weights. With importance the extreme may not matter, so more
// scales are worth trying.
constexpr GridTrial kFast[] = {{3.6f, 4.6f, 4, 3.4f, 4}};
constexpr GridTrial kNormal[] = {{3.6f, 4.6f, 8, 3.4f, 4}};
constexpr GridTrial kBest[] = {{3.3f, 5.0f, 8, 3.6f, 8}, {4.0f, 5.0f, 8, 3.6f, 8}};
constexpr GridTrial kWeighted[] = {{3.0f, 6.0f, 16, 4.6f, 12}, {4.0f, 4.6f, 4, 3.4f, 4}};
constexpr GridTrial kWeightedBest[] = {{3.1f, 6.5f, 16, 5.0f, 16}, {4.0f, 4.6f, 8, 3.4f, 4}};

GridEffort EffortOf(Effort effort, bool weighted) {
  if (effort == Effort::kFast) return {kFast, 0};
  if (effort == Effort::kNormal) {
    return weighted ? GridEffort{kWeighted, 2} : GridEffort{kNormal, 0};
  }
  return weighted ? GridEffort{kWeightedBest, 3} : GridEffort{kBest, 2};
}

template <bool kWeighted>
void EncodeBatch(const float* HWY_RESTRICT blocks, const float* HWY_RESTRICT importance,
                 const GridEffort& effort, uint8_t* HWY_RESTRICT out) {
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
  GridSuper super;
  SearchGrid<kWeighted>(x, kWeighted ? w : nullptr, kRange, effort, super);
  const auto code = [&](size_t i) HWY_ATTR {
    const auto signed_code = hn::ConvertTo(di, hn::Load(d, x + i * kN));
    return hn::BitCast(du, hn::Add(signed_code, hn::Set(di, 4)));
  };
  // Bit k / 32 of byte k % 32 of hmask is bit 2 of the code of element k.
  const auto mask_word = [&](size_t l) HWY_ATTR {
    auto bytes = hn::Zero(du);
    for (size_t k = 4; k-- > 0;) {
      auto bits = hn::Zero(du);
      for (size_t j = 8; j-- > 0;) {
        bits = hn::Or(hn::Add(bits, bits), hn::ShiftRight<2>(code(32 * j + l + k)));
      }
      bytes = hn::Or(hn::ShiftLeft<8>(bytes), bits);
    }
    return bytes;
  };
  // Byte 32 n + l holds the low bits of elements 128 n + 32 j + l.
  const auto low_word = [&](size_t n, size_t l) HWY_ATTR {
    auto bytes = hn::Zero(du);
    for (size_t k = 4; k-- > 0;) {
      auto bits = hn::Zero(du);
      for (size_t j = 4; j-- > 0;) {
        const auto low = hn::And(code(128 * n + 32 * j + l + k), hn::Set(du, 3));
        bits = hn::Or(hn::ShiftLeft<2>(bits), low);
      }
      bytes = hn::Or(hn::ShiftLeft<8>(bytes), bits);
    }
    return bytes;
  };
  for (size_t l = 0; l < 32; l += 16) {
    StoreWords(mask_word(l), mask_word(l + 4), mask_word(l + 8), mask_word(l + 12), out + l,
               kBytes);
  }
  for (size_t n = 0; n < 2; ++n) {
    for (size_t l = 0; l < 32; l += 16) {
      StoreWords(low_word(n, l), low_word(n, l + 4), low_word(n, l + 8), low_word(n, l + 12),
                 out + 32 + 32 * n + l, kBytes);
    }
  }
  const auto scale = [&](size_t s) HWY_ATTR {
    const auto signed_scale = hn::ConvertTo(di, super.scales[s]);
    return hn::BitCast(du, hn::Add(signed_scale, hn::Set(di, 32)));
  };
  // Low nibbles of sub-blocks s and s + 8 share a byte.
  const auto low_scales = [&](size_t s) HWY_ATTR {
    auto bytes = hn::Zero(du);
    const auto low_bits = hn::Set(du, 15);
    for (size_t k = 4; k-- > 0;) {
      const auto low = hn::And(scale(s + k), low_bits);
      const auto high = hn::ShiftLeft<4>(hn::And(scale(s + 8 + k), low_bits));
      bytes = hn::Or(hn::ShiftLeft<8>(bytes), hn::Or(low, high));
    }
    return bytes;
  };
  auto high_scales = hn::Zero(du);
  for (size_t k = 4; k-- > 0;) {
    auto bits = hn::Zero(du);
    for (size_t j = 4; j-- > 0;) {
      bits = hn::Or(hn::ShiftLeft<2>(bits), hn::ShiftRight<4>(scale(4 * j + k)));
    }
    high_scales = hn::Or(hn::ShiftLeft<8>(high_scales), bits);
  }
  StoreLanes<4>(low_scales(0), out + 96, kBytes);
  StoreLanes<4>(low_scales(4), out + 100, kBytes);
  StoreLanes<4>(high_scales, out + 104, kBytes);
  StoreLanes<2>(F16BitsFromF32(d, super.d), out + 108, kBytes);
}

void EncodeQ3K(const EncodeInput& in, uint8_t* out) {
  const GridEffort effort = EffortOf(in.effort, in.importance != nullptr);
  ForEachBatch<kElems, kBytes>(
      in, out, [&](const float* x, const float* w, uint8_t* blocks) HWY_ATTR {
        w != nullptr ? EncodeBatch<true>(x, w, effort, blocks)
                     : EncodeBatch<false>(x, w, effort, blocks);
      });
}

void DecodeQ3K(const uint8_t* blocks, uint64_t n_elems, float* out) {
  const DFloat d;
  const DInt di;
  const hn::Rebind<uint8_t, DFloat> d8;
  const auto two_bits = hn::Set(di, 3);
  for (const float* end = out + n_elems; out != end; out += kElems, blocks += kBytes) {
    const float scale = F16ToF32(LoadLE<uint16_t>(blocks + 108));
    for (size_t g = 0; g < 16; ++g) {
      const auto sub_scale = hn::Set(d, scale * static_cast<float>(ScaleOf(blocks + 96, g)));
      const size_t n = g / 8, j = g % 8 / 2, half = 16 * (g % 2);
      for (size_t l = 0; l < 16; l += hn::Lanes(d)) {
        const auto packed = hn::PromoteTo(di, hn::LoadU(d8, blocks + 32 + 32 * n + half + l));
        const auto mask = hn::PromoteTo(di, hn::LoadU(d8, blocks + half + l));
        const auto low = hn::And(hn::ShiftRightSame(packed, static_cast<int>(2 * j)), two_bits);
        const auto bit = hn::And(hn::ShiftRightSame(mask, static_cast<int>(4 * n + j)), hn::Set(di, 1));
        // The bit adds 4 to a code that starts at -4.
        const auto q = hn::Sub(hn::Or(low, hn::ShiftLeft<2>(bit)), hn::Set(di, 4));
        hn::StoreU(hn::Mul(sub_scale, hn::ConvertTo(d, q)), d, out + 16 * g + l);
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

constexpr size_t kElems = 256, kBytes = 110;

void DecodeScalar(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  for (uint64_t k = 0; k < n_elems; ++k) {
    const uint8_t* block = blocks + k / kElems * kBytes;
    const size_t i = k % kElems, n = i / 128, j = i % 128 / 32, l = i % 32;
    const int low = block[32 + 32 * n + l] >> 2 * j & 3;
    const int q = low - (block[l] >> (4 * n + j) & 1 ? 0 : 4);
    const float scale = F16ToF32(LoadLE<uint16_t>(block + 108)) *
                        static_cast<float>(ScaleOf(block + 96, i / 16));
    out[k] = scale * static_cast<float>(q);
  }
}

QUERN_EXPORT_KERNELS(Q3K);

}  // namespace

const BlockCodec kCodecQ3K = {DType::kQ3_K, 65504.0f * 64.0f, Encode,
                              Decode,       EncodeStatic,     DecodeScalar};

}  // namespace quern
#endif  // HWY_ONCE
