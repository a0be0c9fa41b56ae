// q5_1: 32 five-bit codes times one scale, plus one minimum.
//
// At effort fast, without importance, the rule is ggml's, byte for byte: it maps the least weight to code 0 and the largest to 31, and takes
// the inverse of the scale before the scale is rounded to binary16. Otherwise the
// encoder aims at the least squared error.
// Source: quant/BLOCKS.md, "q5_1".
#include <algorithm>
#include <cmath>

#include "formats/core/bytes.h"
#include "formats/core/half.h"
#include "quant/codec.h"
#include "quant/codec_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/q5_1.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "quant/block32-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace {

constexpr size_t kElems = 32, kBytes = 24;

// Found by greedy search over four sets of weights.
constexpr Cut kCuts[] = {
    {.1f, .1f}, {.2f, -.8f}, {-.1f, .4f}, {.4f, -.1f}, {-2, 0},
    {-.2f, -.9f}, {-.7f, -.1f}, {-1.9f, -.8f}, {-.3f, -.3f}, {-2, -2}};

void StoreBlocks(const Tile32& tile, const ScaleAndMin& numbers, uint8_t* HWY_RESTRICT out) {
  const auto scale_bits = F16BitsFromF32(DFloat(), numbers.scale);
  const auto min_bits = F16BitsFromF32(DFloat(), numbers.min);
  StoreLanes<4>(hn::Or(scale_bits, hn::ShiftLeft<16>(min_bits)), out, kBytes);
  StoreLanes<4>(FifthBits(tile), out + 4, kBytes);
  StoreNibbles(tile, out + 8, kBytes);
}

void EncodePlain(const float* HWY_RESTRICT blocks, uint8_t* HWY_RESTRICT out) {
  Tile32 tile;
  LoadTile32<false>(blocks, nullptr, tile);
  const ScaleAndMin numbers = PlainAffine<31>(tile);
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
      SearchAffine32<kWeighted, 31>(tile, kCuts, n_cuts, more ? 2 : 1);
  StoreBlocks(tile, numbers, out);
}

void EncodeQ5_1(const EncodeInput& in, uint8_t* out) {
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

void DecodeQ5_1(const uint8_t* blocks, uint64_t n_elems, float* out) {
  const DFloat d;
  const DInt di;
  const hn::Rebind<uint8_t, DFloat> d8;
  const auto low_bits = hn::Set(di, 15);
  for (const float* end = out + n_elems; out != end; out += kElems, blocks += kBytes) {
    const auto scale = hn::Set(d, F16ToF32(LoadLE<uint16_t>(blocks)));
    const auto min = hn::Set(d, F16ToF32(LoadLE<uint16_t>(blocks + 2)));
    const auto fifth_bits = hn::Set(di, LoadLE<int32_t>(blocks + 4));
    for (size_t i = 0; i < kElems / 2; i += hn::Lanes(d)) {
      const auto packed = hn::PromoteTo(di, hn::LoadU(d8, blocks + 8 + i));
      // Brings bit i of the fifth bits, and bit i + 16, to bit 4.
      const auto place = hn::Add(hn::Iota(di, 0), hn::Set(di, static_cast<int32_t>(i)));
      const auto bits = hn::Shr(fifth_bits, place);
      const auto bit4 = hn::Set(di, 16);
      const auto low = hn::Or(hn::And(packed, low_bits), hn::And(hn::ShiftLeft<4>(bits), bit4));
      const auto high =
          hn::Or(hn::ShiftRight<4>(packed), hn::And(hn::ShiftRight<12>(bits), bit4));
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

constexpr size_t kElems = 32, kBytes = 24;

HWY_EXPORT(EncodeQ5_1);
HWY_EXPORT(DecodeQ5_1);
void Encode(const EncodeInput& in, uint8_t* out) noexcept {
  HWY_DYNAMIC_DISPATCH(EncodeQ5_1)(in, out);
}
void Decode(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  HWY_DYNAMIC_DISPATCH(DecodeQ5_1)(blocks, n_elems, out);
}

void EncodePlainScalar(const EncodeInput& in, uint8_t* out) {
  const float* x = in.x;
  for (const float* end = x + in.n_rows * in.n_cols; x != end; x += kElems, out += kBytes) {
    float least = x[0], most = x[0];
    for (size_t i = 1; i < kElems; ++i) {
      if (x[i] < least) least = x[i];
      if (x[i] > most) most = x[i];
    }
    const float scale = (most - least) / 31.0f;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    const auto code = [&](float v) -> unsigned {
      // Such a scale is stored as zero; ggml's codes are then 0.
      if (!std::isfinite(inverse)) return 0u;
      return std::min(31u, static_cast<unsigned>((v - least) * inverse + 0.5f));
    };
    StoreLE(out, F32ToF16(scale));
    StoreLE(out + 2, F32ToF16(least));
    uint32_t fifth_bits = 0;
    for (size_t i = 0; i < kElems; ++i) fifth_bits |= code(x[i]) >> 4 << i;
    StoreLE(out + 4, fifth_bits);
    for (size_t i = 0; i < kElems / 2; ++i) {
      out[8 + i] =
          static_cast<uint8_t>((code(x[i]) & 15) | (code(x[i + kElems / 2]) & 15) << 4);
    }
  }
}

void EncodeScalar(const EncodeInput& in, uint8_t* out) noexcept {
  if (in.effort == Effort::kFast && in.importance == nullptr) {
    EncodePlainScalar(in, out);
  } else {
    HWY_STATIC_DISPATCH(EncodeQ5_1)(in, out);
  }
}

void DecodeScalar(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  for (uint64_t k = 0; k < n_elems; ++k) {
    const uint8_t* block = blocks + k / kElems * kBytes;
    const size_t i = k % kElems;
    const float scale = F16ToF32(LoadLE<uint16_t>(block));
    const float min = F16ToF32(LoadLE<uint16_t>(block + 2));
    const int packed = block[8 + i % 16];
    const int q = (i < 16 ? packed & 15 : packed >> 4) | static_cast<int>(LoadLE<uint32_t>(block + 4) >> i & 1) << 4;
    out[k] = static_cast<float>(q) * scale + min;
  }
}

}  // namespace

const BlockCodec kCodecQ5_1 = {DType::kQ5_1, 65504.0f, Encode, Decode, EncodeScalar,
                                DecodeScalar};

}  // namespace quern
#endif  // HWY_ONCE
