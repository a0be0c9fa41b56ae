// q4_0: 32 four-bit codes minus 8, times one scale.
//
// The element of largest magnitude maps to code 0, which is -8; the inverse of the scale is taken
// before the scale is rounded to binary16: ggml's rule, byte for byte.
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

#include "quant/half-inl.h"
#include "quant/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace {

constexpr uint64_t kQ4Elems = 32, kQ4Bytes = 18;
// Blocks whose scales are computed together.
constexpr uint64_t kQ4Group = 16;

// Returns the element of largest magnitude; of equal ones the first; +0 if all are zero.
HWY_INLINE float SignedExtreme(const float* HWY_RESTRICT x) {
  const DFloat d;
  auto most = hn::LoadU(d, x);
  auto least = most;
  for (size_t i = hn::Lanes(d); i < kQ4Elems; i += hn::Lanes(d)) {
    const auto v = hn::LoadU(d, x + i);
    most = hn::Max(most, v);
    least = hn::Min(least, v);
  }
  const float top = hn::GetLane(hn::MaxOfLanes(d, most));
  const float bottom = hn::GetLane(hn::MinOfLanes(d, least));
  if (top != -bottom) return top > -bottom ? top : bottom;
  if (top == 0.0f) return 0.0f;
  while (*x != top && *x != bottom) ++x;
  return *x;
}

// Encodes `n_blocks` <= kQ4Group blocks.
HWY_INLINE void EncodeQ4Group(const float* HWY_RESTRICT x, uint64_t n_blocks,
                              uint8_t* HWY_RESTRICT out) {
  const DFloat d;
  const DInt di;
  const size_t lanes = hn::Lanes(d);
  HWY_ALIGN float inverse[kQ4Group] = {};  // holds the extremes first
  HWY_ALIGN float offset[kQ4Group];
  HWY_ALIGN uint16_t halves[kQ4Group];
  for (uint64_t b = 0; b < n_blocks; ++b) inverse[b] = SignedExtreme(x + b * kQ4Elems);
  for (size_t b = 0; b < kQ4Group; b += lanes) {
    const auto scale = hn::Div(hn::Load(d, inverse + b), hn::Set(d, -8.0f));
    StoreF16(d, scale, halves + b);
    // A scale of zero gives code 8, which is 0. A scale so small that 1 / scale overflows is stored
    // as zero; ggml's codes are then 0.
    const auto zero = hn::Zero(d);
    const auto reciprocal = hn::Div(hn::Set(d, 1.0f), scale);
    const auto usable = hn::Le(hn::Abs(reciprocal), hn::Set(d, hwy::HighestValue<float>()));
    const auto rounds = hn::Or(usable, hn::Eq(scale, zero));
    hn::Store(hn::IfThenElseZero(usable, reciprocal), d, inverse + b);
    hn::Store(hn::IfThenElseZero(rounds, hn::Set(d, 8.5f)), d, offset + b);
  }
  const auto top_code = hn::Set(di, 15);
  const hn::Rebind<uint8_t, DFloat> d8;
  for (uint64_t b = 0; b < n_blocks; ++b, x += kQ4Elems, out += kQ4Bytes) {
    StoreLE(out, halves[b]);
    const auto scale = hn::Set(d, inverse[b]);
    const auto shift = hn::Set(d, offset[b]);
    for (size_t i = 0; i < kQ4Elems / 2; i += lanes) {
      const auto lo = hn::Add(hn::Mul(hn::LoadU(d, x + i), scale), shift);
      const auto hi = hn::Add(hn::Mul(hn::LoadU(d, x + i + kQ4Elems / 2), scale), shift);
      const auto q_lo = hn::Min(hn::ConvertTo(di, lo), top_code);
      const auto q_hi = hn::Min(hn::ConvertTo(di, hi), top_code);
      const auto packed = hn::Or(q_lo, hn::ShiftLeft<4>(q_hi));
      hn::StoreU(hn::DemoteTo(d8, packed), d8, out + 2 + i);
    }
  }
}

void EncodeQ4_0(const EncodeInput& in, uint8_t* out) {
  const uint64_t n_blocks = in.n_rows * in.n_cols / kQ4Elems;
  for (uint64_t b = 0; b < n_blocks; b += kQ4Group) {
    EncodeQ4Group(in.x + b * kQ4Elems, HWY_MIN(kQ4Group, n_blocks - b), out + b * kQ4Bytes);
  }
}

void DecodeQ4_0(const uint8_t* blocks, uint64_t n_elems, float* out) {
  const DFloat d;
  const DInt di;
  const hn::Rebind<uint8_t, DFloat> d8;
  const auto low_bits = hn::Set(di, 15);
  const auto center = hn::Set(di, 8);
  for (const float* end = out + n_elems; out != end; out += kQ4Elems, blocks += kQ4Bytes) {
    const auto scale = hn::Set(d, F16ToF32(LoadLE<uint16_t>(blocks)));
    for (size_t i = 0; i < kQ4Elems / 2; i += hn::Lanes(d)) {
      const auto packed = hn::PromoteTo(di, hn::LoadU(d8, blocks + 2 + i));
      const auto lo = hn::ConvertTo(d, hn::Sub(hn::And(packed, low_bits), center));
      const auto hi = hn::ConvertTo(d, hn::Sub(hn::ShiftRight<4>(packed), center));
      hn::StoreU(hn::Mul(lo, scale), d, out + i);
      hn::StoreU(hn::Mul(hi, scale), d, out + kQ4Elems / 2 + i);
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

constexpr uint64_t kElems = 32, kBytes = 18;

void EncodeScalar(const EncodeInput& in, uint8_t* out) noexcept {
  const float* x = in.x;
  for (const float* end = x + in.n_rows * in.n_cols; x != end; x += kElems, out += kBytes) {
    float extreme = 0;
    for (uint64_t i = 0; i < kElems; ++i) {
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
    for (uint64_t i = 0; i < kElems / 2; ++i) {
      out[2 + i] = static_cast<uint8_t>(code(x[i]) | code(x[i + kElems / 2]) << 4);
    }
  }
}

void DecodeScalar(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  for (uint64_t k = 0; k < n_elems; k += kElems, blocks += kBytes) {
    const float scale = F16ToF32(LoadLE<uint16_t>(blocks));
    for (uint64_t i = 0; i < kElems / 2; ++i) {
      const int packed = blocks[2 + i];
      out[k + i] = static_cast<float>((packed & 15) - 8) * scale;
      out[k + kElems / 2 + i] = static_cast<float>((packed >> 4) - 8) * scale;
    }
  }
}

HWY_EXPORT(EncodeQ4_0);
HWY_EXPORT(DecodeQ4_0);
void Encode(const EncodeInput& in, uint8_t* out) noexcept {
  HWY_DYNAMIC_DISPATCH(EncodeQ4_0)(in, out);
}
void Decode(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  HWY_DYNAMIC_DISPATCH(DecodeQ4_0)(blocks, n_elems, out);
}

}  // namespace

const BlockCodec kCodecQ4_0 = {DType::kQ4_0, 65504.0f * 8.0f, Encode,
                               Decode,       EncodeScalar,    DecodeScalar};

}  // namespace quern
#endif  // HWY_ONCE
