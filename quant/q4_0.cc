// q4_0: 32 four-bit codes minus 8, times one scale.
//
// At effort fast, without importance, the rule is ggml's, byte for byte: it maps the element of largest magnitude to code 0, which is -8, and takes
// the inverse of the scale before the scale is rounded to binary16. Otherwise the
// encoder aims at the least squared error.
// Source: quant/BLOCKS.md, "q4_0".
#include <algorithm>
#include <cmath>

#include "formats/core/bytes.h"
#include "formats/core/half.h"
#include "quant/codec.h"
#include "quant/codec_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/q4_0.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "quant/block32-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kElems = 32, kBytes = 18;

// The codes that the extreme is mapped to: the plain rule's, then in the order in which they help.
// Found by greedy search over four sets of weights.
constexpr float kReaches[] = {
    -8.0f, -8.2f, -8.6f, -7.8f, -7.2f, -8.9f, -6.9f, -8.4f,
    -6.2f, -7.6f, -7.4f, -9.1f, -6.6f, -8.7f, -8.1f, -6.0f};
constexpr float kWeightedReaches[] = {
    -8.0f, -8.2f, -9.1f, -7.2f, -10.2f, -7.8f, -8.6f, -6.2f,
    8.5f, -11.2f, -6.9f, -9.6f, -8.4f, 9.3f, -12.0f, -8.8f};

void StoreBlocks(const Tile32& tile, VFloat scale, uint8_t* HWY_RESTRICT out) {
  StoreLanes<2>(F16BitsFromF32(DFloat(), scale), out, kBytes);
  StoreNibbles(tile, out + 2, kBytes);
}

void EncodePlain(const float* HWY_RESTRICT blocks, uint8_t* HWY_RESTRICT out) {
  Tile32 tile;
  LoadTile32<false>(blocks, nullptr, tile);
  const auto scale = PlainSymmetric<8>(tile);
  StoreBlocks(tile, scale, out);
}

template <bool kWeighted>
void EncodeSearched(const float* HWY_RESTRICT blocks, const float* HWY_RESTRICT importance,
                    Effort effort, uint8_t* HWY_RESTRICT out) {
  Tile32 tile;
  LoadTile32<kWeighted>(blocks, importance, tile);
  const size_t n_reaches = effort == Effort::kFast ? 4 : effort == Effort::kNormal ? kWeighted ? 12 : 8 : 16;
  const auto scale = SearchSymmetric<kWeighted, true>(
      tile, -8, 7, 8, kWeighted ? kWeightedReaches : kReaches, n_reaches);
  StoreBlocks(tile, scale, out);
}

void EncodeQ4_0(const EncodeInput& in, uint8_t* out) {
  ForEachBatch<kElems, kBytes>(
      in, out, [&](const float* x, const float* w, uint8_t* blocks) HWY_ATTR {
        if (w != nullptr) {
          EncodeSearched<true>(x, w, in.effort, blocks);
        } else if (in.effort == Effort::kFast) {
          EncodePlain(x, blocks);
        } else {
          EncodeSearched<false>(x, nullptr, in.effort, blocks);
        }
      });
}

void DecodeQ4_0(const uint8_t* blocks, uint64_t n_elems, float* out) {
  const DFloat d;
  const DInt di;
  const hn::Rebind<uint8_t, DFloat> d8;
  const auto low_bits = hn::Set(di, 15);
  for (const float* end = out + n_elems; out != end; out += kElems, blocks += kBytes) {
    const auto scale = hn::Set(d, F16ToF32(LoadLE<uint16_t>(blocks)));
    for (size_t i = 0; i < kElems / 2; i += hn::Lanes(d)) {
      const auto packed = hn::PromoteTo(di, hn::LoadU(d8, blocks + 2 + i));
      const auto low = hn::And(packed, low_bits);
      const auto high = hn::ShiftRight<4>(packed);
      const auto center = hn::Set(di, 8);
      const auto low_y = hn::Mul(hn::ConvertTo(d, hn::Sub(low, center)), scale);
      const auto high_y = hn::Mul(hn::ConvertTo(d, hn::Sub(high, center)), scale);
      hn::StoreU(low_y, d, out + i);
      hn::StoreU(high_y, d, out + kElems / 2 + i);
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

constexpr size_t kElems = 32, kBytes = 18;

HWY_EXPORT(EncodeQ4_0);
HWY_EXPORT(DecodeQ4_0);
void Encode(const EncodeInput& in, uint8_t* out) noexcept {
  HWY_DYNAMIC_DISPATCH(EncodeQ4_0)(in, out);
}
void Decode(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  HWY_DYNAMIC_DISPATCH(DecodeQ4_0)(blocks, n_elems, out);
}

void EncodePlainScalar(const EncodeInput& in, uint8_t* out) {
  const float* x = in.x;
  for (const float* end = x + in.n_rows * in.n_cols; x != end; x += kElems, out += kBytes) {
    float extreme = 0;
    for (size_t i = 0; i < kElems; ++i) {
      if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
    }
    const float scale = extreme / -8.0f;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    const auto code = [&](float v) -> unsigned {
      // Such a scale is stored as zero; ggml's codes are then 0.
      if (!std::isfinite(inverse)) return 0u;
      return std::min(15u, static_cast<unsigned>(v * inverse + 8.5f));
    };
    StoreLE(out, F32ToF16(scale));
    for (size_t i = 0; i < kElems / 2; ++i) {
      out[2 + i] = static_cast<uint8_t>(code(x[i]) | code(x[i + kElems / 2]) << 4);
    }
  }
}

void EncodeScalar(const EncodeInput& in, uint8_t* out) noexcept {
  if (in.effort == Effort::kFast && in.importance == nullptr) {
    EncodePlainScalar(in, out);
  } else {
    HWY_STATIC_DISPATCH(EncodeQ4_0)(in, out);
  }
}

void DecodeScalar(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  for (uint64_t k = 0; k < n_elems; ++k) {
    const uint8_t* block = blocks + k / kElems * kBytes;
    const size_t i = k % kElems;
    const float scale = F16ToF32(LoadLE<uint16_t>(block));
    const int packed = block[2 + i % 16];
    const int q = (i < 16 ? packed & 15 : packed >> 4);
    out[k] = static_cast<float>(q - 8) * scale;
  }
}

}  // namespace

const BlockCodec kCodecQ4_0 = {DType::kQ4_0, 65504.0f * 8.0f, Encode, Decode, EncodeScalar,
                                DecodeScalar};

}  // namespace quern
#endif  // HWY_ONCE
