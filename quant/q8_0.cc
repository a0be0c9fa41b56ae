// q8_0: 32 signed bytes times one scale.
//
// At effort fast, without importance, the rule is ggml's, byte for byte: the scale is the largest
// magnitude / 127; codes are rounded half away from zero with the inverse of the scale before it is
// rounded to binary16. Otherwise the encoder aims at the least squared error.
// Source: quant/BLOCKS.md, "q8_0".
#include <algorithm>
#include <cmath>

#include "formats/core/bytes.h"
#include "formats/core/half.h"
#include "quant/block32_scalar.h"
#include "quant/codec.h"
#include "quant/codec_export.h"
#include "quant/codec_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/q8_0.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "quant/symmetric32-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace {

constexpr uint64_t kQ8Elems = 32, kQ8Bytes = 34;
// Blocks whose scales are computed together.
constexpr uint64_t kQ8Group = 16;

HWY_INLINE float MaxMagnitude(const float* HWY_RESTRICT x) {
  const DFloat d;
  auto most = hn::Abs(hn::LoadU(d, x));
  for (size_t i = hn::Lanes(d); i < kQ8Elems; i += hn::Lanes(d)) {
    most = hn::Max(most, hn::Abs(hn::LoadU(d, x + i)));
  }
  return hn::GetLane(hn::MaxOfLanes(d, most));
}

// Encodes `n_blocks` <= kQ8Group blocks.
HWY_INLINE void EncodeQ8Group(const float* HWY_RESTRICT x, uint64_t n_blocks,
                              uint8_t* HWY_RESTRICT out) {
  const DFloat d;
  const DInt di;
  const size_t lanes = hn::Lanes(d);
  HWY_ALIGN float inverse[kQ8Group] = {};  // holds the magnitudes first
  HWY_ALIGN uint16_t halves[kQ8Group];
  for (uint64_t b = 0; b < n_blocks; ++b) inverse[b] = MaxMagnitude(x + b * kQ8Elems);
  for (size_t b = 0; b < kQ8Group; b += lanes) {
    const auto scale = hn::Div(hn::Load(d, inverse + b), hn::Set(d, 127.0f));
    StoreF16(d, scale, halves + b);
    // Where 1 / scale overflows (or scale is zero) the stored scale is zero, and so are the codes.
    const auto reciprocal = hn::Div(hn::Set(d, 1.0f), scale);
    const auto usable = hn::Le(reciprocal, hn::Set(d, hwy::HighestValue<float>()));
    hn::Store(hn::IfThenElseZero(usable, reciprocal), d, inverse + b);
  }
  // Just under one half: adding it and truncating rounds half away from zero, exactly.
  const auto half = hn::Set(d, 0x1.fffffep-2f);
  const hn::Rebind<int8_t, DFloat> d8;
  for (uint64_t b = 0; b < n_blocks; ++b, x += kQ8Elems, out += kQ8Bytes) {
    StoreLE(out, halves[b]);
    auto* codes = reinterpret_cast<int8_t*>(out + 2);
    const auto scale = hn::Set(d, inverse[b]);
    for (size_t i = 0; i < kQ8Elems; i += lanes) {
      const auto q = hn::Mul(hn::LoadU(d, x + i), scale);
      const auto rounded = hn::ConvertTo(di, hn::Add(q, hn::CopySign(half, q)));
      hn::StoreU(hn::DemoteTo(d8, rounded), d8, codes + i);
    }
  }
}

// The codes that the extreme is mapped to, in the order in which they help most.
// Found by greedy search over four sets of weights.
constexpr float kReaches[] = {127, 125, 124, 126, 122, 120, 123, 117,
                              121, 119, 118, 116, 115, 114, 113, 112};

template <bool kWeighted>
void EncodeSearched(const float* HWY_RESTRICT blocks, const float* HWY_RESTRICT importance,
                    Effort effort, uint8_t* HWY_RESTRICT out) {
  const DUint du;
  Tile32 tile;
  LoadTile32<kWeighted>(blocks, importance, tile);
  const size_t n_reaches = effort == Effort::kFast     ? 4
                           : effort == Effort::kNormal ? 8
                                                       : std::size(kReaches);
  const auto scale = SearchSymmetric<kWeighted, false>(tile, -127, 127, 0, kReaches, n_reaches);
  StoreLanes<2>(F16BitsFromF32(DFloat(), scale), out, kQ8Bytes);
  const auto word = [&](size_t i) HWY_ATTR {
    auto bytes = hn::Zero(du);
    for (size_t k = 4; k-- > 0;) {
      const auto code = hn::And(tile.CodeAt(i + k), hn::Set(du, 255));
      bytes = hn::Or(hn::ShiftLeft<8>(bytes), code);
    }
    return bytes;
  };
  for (size_t i = 0; i < kQ8Elems; i += 16) {
    StoreWords(word(i), word(i + 4), word(i + 8), word(i + 12), out + 2 + i, kQ8Bytes);
  }
}

void EncodePlain(const EncodeInput& in, uint8_t* out) {
  const uint64_t n_blocks = in.n_rows * in.n_cols / kQ8Elems;
  for (uint64_t b = 0; b < n_blocks; b += kQ8Group) {
    EncodeQ8Group(in.x + b * kQ8Elems, HWY_MIN(kQ8Group, n_blocks - b), out + b * kQ8Bytes);
  }
}

void EncodeQ8_0(const EncodeInput& in, uint8_t* out) {
  if (in.effort == Effort::kFast && in.importance == nullptr) return EncodePlain(in, out);
  ForEachBatch<kQ8Elems, kQ8Bytes>(
      in, out, [&](const float* x, const float* w, uint8_t* blocks) HWY_ATTR {
        w != nullptr ? EncodeSearched<true>(x, w, in.effort, blocks)
                     : EncodeSearched<false>(x, nullptr, in.effort, blocks);
      });
}

void DecodeQ8_0(const uint8_t* blocks, uint64_t n_elems, float* out) {
  const DFloat d;
  const DInt di;
  const hn::Rebind<int8_t, DFloat> d8;
  for (const float* end = out + n_elems; out != end; out += kQ8Elems, blocks += kQ8Bytes) {
    const auto scale = hn::Set(d, F16ToF32(LoadLE<uint16_t>(blocks)));
    const auto* codes = reinterpret_cast<const int8_t*>(blocks + 2);
    for (size_t i = 0; i < kQ8Elems; i += hn::Lanes(d)) {
      const auto q = hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(d8, codes + i)));
      hn::StoreU(hn::Mul(q, scale), d, out + i);
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

constexpr uint64_t kElems = 32, kBytes = 34;

QUERN_EXPORT_KERNELS(Q8_0);

void EncodePlainScalar(const EncodeInput& in, uint8_t* out) {
  const float* x = in.x;
  for (const float* end = x + in.n_rows * in.n_cols; x != end; x += kElems, out += kBytes) {
    float most = 0;
    for (uint64_t i = 0; i < kElems; ++i) most = std::max(most, std::fabs(x[i]));
    const float scale = most / 127.0f;
    const float reciprocal = 1.0f / scale;
    const float inverse = std::isfinite(reciprocal) ? reciprocal : 0.0f;
    StoreLE(out, F32ToF16(scale));
    for (uint64_t i = 0; i < kElems; ++i) {
      StoreLE(out + 2 + i, static_cast<int8_t>(std::round(x[i] * inverse)));
    }
  }
}

void EncodeScalar(const EncodeInput& in, uint8_t* out) noexcept {
  IsPlain(in) ? EncodePlainScalar(in, out) : EncodeStatic(in, out);
}

void DecodeScalar(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  for (uint64_t k = 0; k < n_elems; k += kElems, blocks += kBytes) {
    const float scale = F16ToF32(LoadLE<uint16_t>(blocks));
    for (uint64_t i = 0; i < kElems; ++i) {
      out[k + i] = static_cast<float>(LoadLE<int8_t>(blocks + 2 + i)) * scale;
    }
  }
}

}  // namespace

const BlockCodec kCodecQ8_0 = {DType::kQ8_0, 65504.0f * 127.0f, Encode,
                               Decode,       EncodeScalar,      DecodeScalar};

}  // namespace quern
#endif  // HWY_ONCE
