// q4_1: 32 four-bit codes times one scale, plus one minimum.
//
// At effort fast, without importance, the rule is ggml's, byte for byte: it maps the least weight to code 0 and the largest to 15, and takes
// the inverse of the scale before the scale is rounded to binary16. Otherwise the
// encoder aims at the least squared error.
// Source: quant/BLOCKS.md, "q4_1".
#include <algorithm>
#include <cmath>

#include "formats/core/bytes.h"
#include "formats/core/half.h"
#include "quant/codec.h"
#include "quant/codec_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/q4_1.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "quant/block32-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kElems = 32, kBytes = 20;

// Found by greedy search over four sets of weights.
constexpr Cut kCuts[] = {
    {.2f, .1f}, {-.2f, .4f}, {.4f, -.2f}, {-.9f, 0}, {0, .3f},
    {-.9f, -.9f}, {0, -.6f}, {-.4f, -.4f}, {.3f, 0}, {-.8f, -.2f}};

void StoreBlocks(const Tile32& tile, const ScaleAndMin& numbers, uint8_t* HWY_RESTRICT out) {
  const auto scale_bits = F16BitsFromF32(DFloat(), numbers.scale);
  const auto min_bits = F16BitsFromF32(DFloat(), numbers.min);
  StoreLanes<4>(hn::Or(scale_bits, hn::ShiftLeft<16>(min_bits)), out, kBytes);
  StoreNibbles(tile, out + 4, kBytes);
}

void EncodePlain(const float* HWY_RESTRICT blocks, uint8_t* HWY_RESTRICT out) {
  Tile32 tile;
  LoadTile32<false>(blocks, nullptr, tile);
  const ScaleAndMin numbers = PlainAffine<15>(tile);
  StoreBlocks(tile, numbers, out);
}

template <bool kWeighted>
void EncodeSearched(const float* HWY_RESTRICT blocks, const float* HWY_RESTRICT importance,
                    Effort effort, uint8_t* HWY_RESTRICT out) {
  Tile32 tile;
  LoadTile32<kWeighted>(blocks, importance, tile);
  const bool more = effort == Effort::kBest;
  const size_t n_cuts = effort == Effort::kFast ? 4 : more ? std::size(kCuts) : kWeighted ? 8 : 4;
  const ScaleAndMin numbers =
      SearchAffine32<kWeighted, 15>(tile, kCuts, n_cuts, more ? 2 : 1);
  StoreBlocks(tile, numbers, out);
}

void EncodeQ4_1(const EncodeInput& in, uint8_t* out) {
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

void DecodeQ4_1(const uint8_t* blocks, uint64_t n_elems, float* out) {
  const DFloat d;
  const DInt di;
  const hn::Rebind<uint8_t, DFloat> d8;
  const auto low_bits = hn::Set(di, 15);
  for (const float* end = out + n_elems; out != end; out += kElems, blocks += kBytes) {
    const auto scale = hn::Set(d, F16ToF32(LoadLE<uint16_t>(blocks)));
    const auto min = hn::Set(d, F16ToF32(LoadLE<uint16_t>(blocks + 2)));
    for (size_t i = 0; i < kElems / 2; i += hn::Lanes(d)) {
      const auto packed = hn::PromoteTo(di, hn::LoadU(d8, blocks + 4 + i));
      const auto low = hn::And(packed, low_bits);
      const auto high = hn::ShiftRight<4>(packed);
      const auto low_y = hn::Add(hn::Mul(hn::ConvertTo(d, low), scale), min);
      const auto high_y = hn::Add(hn::Mul(hn::ConvertTo(d, high), scale), min);
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

constexpr size_t kElems = 32, kBytes = 20;

HWY_EXPORT(EncodeQ4_1);
HWY_EXPORT(DecodeQ4_1);
void Encode(const EncodeInput& in, uint8_t* out) noexcept {
  HWY_DYNAMIC_DISPATCH(EncodeQ4_1)(in, out);
}
void Decode(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  HWY_DYNAMIC_DISPATCH(DecodeQ4_1)(blocks, n_elems, out);
}

void EncodePlainScalar(const EncodeInput& in, uint8_t* out) {
  const float* x = in.x;
  for (const float* end = x + in.n_rows * in.n_cols; x != end; x += kElems, out += kBytes) {
    float least = x[0], most = x[0];
    for (size_t i = 1; i < kElems; ++i) {
      if (x[i] < least) least = x[i];
      if (x[i] > most) most = x[i];
    }
    const float scale = (most - least) / 15.0f;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    const auto code = [&](float v) -> unsigned {
      // Such a scale is stored as zero; ggml's codes are then 0.
      if (!std::isfinite(inverse)) return 0u;
      return std::min(15u, static_cast<unsigned>((v - least) * inverse + 0.5f));
    };
    StoreLE(out, F32ToF16(scale));
    StoreLE(out + 2, F32ToF16(least));
    for (size_t i = 0; i < kElems / 2; ++i) {
      out[4 + i] = static_cast<uint8_t>(code(x[i]) | code(x[i + kElems / 2]) << 4);
    }
  }
}

void EncodeScalar(const EncodeInput& in, uint8_t* out) noexcept {
  if (in.effort == Effort::kFast && in.importance == nullptr) {
    EncodePlainScalar(in, out);
  } else {
    HWY_STATIC_DISPATCH(EncodeQ4_1)(in, out);
  }
}

void DecodeScalar(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  for (uint64_t k = 0; k < n_elems; ++k) {
    const uint8_t* block = blocks + k / kElems * kBytes;
    const size_t i = k % kElems;
    const float scale = F16ToF32(LoadLE<uint16_t>(block));
    const float min = F16ToF32(LoadLE<uint16_t>(block + 2));
    const int packed = block[4 + i % 16];
    const int q = (i < 16 ? packed & 15 : packed >> 4);
    out[k] = static_cast<float>(q) * scale + min;
  }
}

}  // namespace

const BlockCodec kCodecQ4_1 = {DType::kQ4_1, 65504.0f, Encode, Decode, EncodeScalar,
                                DecodeScalar};

}  // namespace quern
#endif  // HWY_ONCE
