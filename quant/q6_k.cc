// q6_k: 256 six-bit codes in sixteen sub-blocks, with eight-bit scales.
//
// The encoder aims at the least squared error, weighted by importance where there is any.
// Source: quant/BLOCKS.md, "q6_k".
#include "formats/core/bytes.h"
#include "formats/core/half.h"
#include "quant/codec.h"
#include "quant/codec_export.h"
#include "quant/codec_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/q6_k.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "quant/grid_search-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kElems = 256, kBytes = 210;

constexpr GridRange kRange = {-32, 31, -128, 127};

// Found by trial on five sets of weights. With importance a few elements may be nearly all that
// counts, so more scales are worth trying.
constexpr GridTrial kFast[] = {{30.8f, 32.4f, 4}};
constexpr GridTrial kNormal[] = {{30.5f, 32.5f, 8}};
constexpr GridTrial kMore[] = {{29.0f, 33.0f, 16}};
constexpr GridTrial kMost[] = {{27.0f, 33.0f, 24}};

GridEffort EffortOf(Effort effort, bool weighted) {
  if (effort == Effort::kFast) return {kFast, 0};
  if (effort == Effort::kNormal) return weighted ? GridEffort{kMore, 4} : GridEffort{kNormal, 0};
  return weighted ? GridEffort{kMost, 4} : GridEffort{kMore, 2};
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
    return hn::BitCast(du, hn::Add(signed_code, hn::Set(di, 32)));
  };
  const auto low_bits = hn::Set(du, 15);
  // Byte 64 n + m of ql holds the low bits of elements 128 n + m and 128 n + 64 + m.
  const auto low_word = [&](size_t n, size_t m) HWY_ATTR {
    auto bytes = hn::Zero(du);
    for (size_t k = 4; k-- > 0;) {
      const auto low = hn::And(code(128 * n + m + k), low_bits);
      const auto high = hn::ShiftLeft<4>(hn::And(code(128 * n + 64 + m + k), low_bits));
      bytes = hn::Or(hn::ShiftLeft<8>(bytes), hn::Or(low, high));
    }
    return bytes;
  };
  // Byte 32 n + l of qh holds the high bits of elements 128 n + 32 t + l.
  const auto high_word = [&](size_t n, size_t l) HWY_ATTR {
    auto bytes = hn::Zero(du);
    for (size_t k = 4; k-- > 0;) {
      auto bits = hn::Zero(du);
      for (size_t t = 4; t-- > 0;) {
        bits = hn::Or(hn::ShiftLeft<2>(bits), hn::ShiftRight<4>(code(128 * n + 32 * t + l + k)));
      }
      bytes = hn::Or(hn::ShiftLeft<8>(bytes), bits);
    }
    return bytes;
  };
  const auto scale_word = [&](size_t s) HWY_ATTR {
    auto bytes = hn::Zero(du);
    for (size_t k = 4; k-- > 0;) {
      const auto scale = hn::BitCast(du, hn::ConvertTo(di, super.scales[s + k]));
      bytes = hn::Or(hn::ShiftLeft<8>(bytes), hn::And(scale, hn::Set(du, 255)));
    }
    return bytes;
  };
  for (size_t n = 0; n < 2; ++n) {
    for (size_t m = 0; m < 64; m += 16) {
      StoreWords(low_word(n, m), low_word(n, m + 4), low_word(n, m + 8), low_word(n, m + 12),
                 out + 64 * n + m, kBytes);
    }
    for (size_t l = 0; l < 32; l += 16) {
      StoreWords(high_word(n, l), high_word(n, l + 4), high_word(n, l + 8), high_word(n, l + 12),
                 out + 128 + 32 * n + l, kBytes);
    }
  }
  StoreWords(scale_word(0), scale_word(4), scale_word(8), scale_word(12), out + 192, kBytes);
  StoreLanes<2>(F16BitsFromF32(d, super.d), out + 208, kBytes);
}

void EncodeQ6K(const EncodeInput& in, uint8_t* out) {
  const GridEffort effort = EffortOf(in.effort, in.importance != nullptr);
  ForEachBatch<kElems, kBytes>(
      in, out, [&](const float* x, const float* w, uint8_t* blocks) HWY_ATTR {
        w != nullptr ? EncodeBatch<true>(x, w, effort, blocks)
                     : EncodeBatch<false>(x, w, effort, blocks);
      });
}

void DecodeQ6K(const uint8_t* blocks, uint64_t n_elems, float* out) {
  const DFloat d;
  const DInt di;
  const hn::Rebind<uint8_t, DFloat> d8;
  const auto center = hn::Set(di, 32);
  const auto two_bits = hn::Set(di, 0x30);
  for (const float* end = out + n_elems; out != end; out += kElems, blocks += kBytes) {
    const float scale = F16ToF32(LoadLE<uint16_t>(blocks + 208));
    const auto* scales = reinterpret_cast<const int8_t*>(blocks + 192);
    // Sub-blocks s (low nibbles) and s + 4 (high nibbles) share bytes.
    for (size_t n = 0; n < 2; ++n) {
      for (size_t s = 0; s < 4; ++s) {
        const size_t at = 8 * n + s;
        const auto low_scale = hn::Set(d, scale * static_cast<float>(scales[at]));
        const auto high_scale = hn::Set(d, scale * static_cast<float>(scales[at + 4]));
        // The two bits of sub-block t = s / 2 come to bits 4 and 5, those of t + 2 four lower.
        const int shift = static_cast<int>(s / 2 * 2);
        for (size_t l = 0; l < 16; l += hn::Lanes(d)) {
          const auto ql = hn::PromoteTo(di, hn::LoadU(d8, blocks + 64 * n + 16 * s + l));
          const auto qh =
              hn::PromoteTo(di, hn::LoadU(d8, blocks + 128 + 32 * n + 16 * (s % 2) + l));
          const auto shifted = hn::ShiftRightSame(qh, shift);
          const auto low = hn::Or(hn::And(ql, hn::Set(di, 15)),
                                  hn::And(hn::ShiftLeft<4>(shifted), two_bits));
          const auto high = hn::Or(hn::ShiftRight<4>(ql), hn::And(shifted, two_bits));
          const auto low_y = hn::Mul(low_scale, hn::ConvertTo(d, hn::Sub(low, center)));
          const auto high_y = hn::Mul(high_scale, hn::ConvertTo(d, hn::Sub(high, center)));
          hn::StoreU(low_y, d, out + 16 * at + l);
          hn::StoreU(high_y, d, out + 16 * (at + 4) + l);
        }
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

constexpr size_t kElems = 256, kBytes = 210;

void DecodeScalar(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  for (uint64_t k = 0; k < n_elems; ++k) {
    const uint8_t* block = blocks + k / kElems * kBytes;
    const size_t i = k % kElems, n = i / 128, t = i % 128 / 32, l = i % 32;
    const int packed = block[64 * n + l + 32 * (t % 2)];
    const int low = t < 2 ? packed & 15 : packed >> 4;
    const int high = block[128 + 32 * n + l] >> 2 * t & 3;
    const float code = static_cast<float>(LoadLE<int8_t>(block + 192 + i / 16));
    const float scale = F16ToF32(LoadLE<uint16_t>(block + 208)) * code;
    out[k] = scale * static_cast<float>((low | high << 4) - 32);
  }
}

QUERN_EXPORT_KERNELS(Q6K);

}  // namespace

const BlockCodec kCodecQ6K = {DType::kQ6_K, 65504.0f * 1024.0f, Encode,
                              Decode,       EncodeStatic,     DecodeScalar};

}  // namespace quern
#endif  // HWY_ONCE
