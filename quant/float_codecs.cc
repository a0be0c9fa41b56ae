// f32, f16 and bf16: plain numbers, one per block. Rounding is formats/core/half.h's. Also the
// search for numbers that cannot be encoded.
// Source: quant/BLOCKS.md, "Plain numbers".
#include <cmath>
#include <cstring>
#include <limits>

#include "formats/core/bytes.h"
#include "formats/core/half.h"
#include "quant/codec.h"
#include "quant/codec_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/float_codecs.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "quant/half-inl.h"
#include "quant/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace {

// Calls `whole(i)` for every run of Lanes(d) elements and `tail(i)` for the elements left over.
template <class Whole, class Tail>
HWY_INLINE void ForEachRun(DFloat d, uint64_t n, const Whole& whole, const Tail& tail) {
  const size_t lanes = hn::Lanes(d);
  uint64_t i = 0;
  for (; i + lanes <= n; i += lanes) whole(i);
  for (; i < n; ++i) tail(i);
}

void EncodeF16(const EncodeInput& in, uint8_t* out) {
  const DFloat d;
  auto* halves = reinterpret_cast<uint16_t*>(out);
  ForEachRun(
      d, in.n_rows * in.n_cols,
      [&](uint64_t i) HWY_ATTR { StoreF16(d, hn::LoadU(d, in.x + i), halves + i); },
      [&](uint64_t i) HWY_ATTR { StoreLE(halves + i, F32ToF16(in.x[i])); });
}

void DecodeF16(const uint8_t* blocks, uint64_t n_elems, float* out) {
  const DFloat d;
  const auto* halves = reinterpret_cast<const uint16_t*>(blocks);
  ForEachRun(
      d, n_elems, [&](uint64_t i) HWY_ATTR { hn::StoreU(LoadF16(d, halves + i), d, out + i); },
      [&](uint64_t i) HWY_ATTR { out[i] = F16ToF32(LoadLE<uint16_t>(halves + i)); });
}

void EncodeBF16(const EncodeInput& in, uint8_t* out) {
  const DFloat d;
  auto* halves = reinterpret_cast<uint16_t*>(out);
  ForEachRun(
      d, in.n_rows * in.n_cols,
      [&](uint64_t i) HWY_ATTR { StoreBF16(d, hn::LoadU(d, in.x + i), halves + i); },
      [&](uint64_t i) HWY_ATTR { StoreLE(halves + i, F32ToBF16(in.x[i])); });
}

void DecodeBF16(const uint8_t* blocks, uint64_t n_elems, float* out) {
  const DFloat d;
  const auto* halves = reinterpret_cast<const uint16_t*>(blocks);
  ForEachRun(
      d, n_elems, [&](uint64_t i) HWY_ATTR { hn::StoreU(LoadBF16(d, halves + i), d, out + i); },
      [&](uint64_t i) HWY_ATTR { out[i] = BF16ToF32(LoadLE<uint16_t>(halves + i)); });
}

uint64_t FirstAbove(const float* x, uint64_t n, float limit) {
  const DFloat d;
  const auto bound = hn::Set(d, limit);
  const size_t step = 4 * hn::Lanes(d);
  uint64_t i = 0;
  for (; i + step <= n; i += step) {
    // The comparison is false for a NaN, so "all within" is the test to make.
    auto within = hn::Le(hn::Abs(hn::LoadU(d, x + i)), bound);
    for (size_t k = hn::Lanes(d); k < step; k += hn::Lanes(d)) {
      within = hn::And(within, hn::Le(hn::Abs(hn::LoadU(d, x + i + k)), bound));
    }
    if (!hn::AllTrue(d, within)) break;
  }
  while (i < n && std::fabs(x[i]) <= limit) ++i;
  return i;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quern {
namespace {

void EncodeF32(const EncodeInput& in, uint8_t* out) noexcept {
  const uint64_t n_elems = in.n_rows * in.n_cols;
  if (n_elems != 0) std::memcpy(out, in.x, n_elems * sizeof(float));
}
void DecodeF32(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  if (n_elems != 0) std::memcpy(out, blocks, n_elems * sizeof(float));
}

HWY_EXPORT(EncodeF16);
HWY_EXPORT(DecodeF16);
HWY_EXPORT(EncodeBF16);
HWY_EXPORT(DecodeBF16);
HWY_EXPORT(FirstAbove);

void EncodeF16Best(const EncodeInput& in, uint8_t* out) noexcept {
  HWY_DYNAMIC_DISPATCH(EncodeF16)(in, out);
}
void DecodeF16Best(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  HWY_DYNAMIC_DISPATCH(DecodeF16)(blocks, n_elems, out);
}
void EncodeBF16Best(const EncodeInput& in, uint8_t* out) noexcept {
  HWY_DYNAMIC_DISPATCH(EncodeBF16)(in, out);
}
void DecodeBF16Best(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  HWY_DYNAMIC_DISPATCH(DecodeBF16)(blocks, n_elems, out);
}

template <uint16_t (*Round)(float)>
void EncodeHalfScalar(const EncodeInput& in, uint8_t* out) noexcept {
  for (uint64_t i = 0; i < in.n_rows * in.n_cols; ++i) StoreLE(out + 2 * i, Round(in.x[i]));
}
template <float (*Widen)(uint16_t)>
void DecodeHalfScalar(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  for (uint64_t i = 0; i < n_elems; ++i) out[i] = Widen(LoadLE<uint16_t>(blocks + 2 * i));
}

}  // namespace

// The largest floats that do not round to infinity.
const BlockCodec kCodecF32 = {DType::kF32, std::numeric_limits<float>::max(), EncodeF32,
                              DecodeF32,   EncodeF32,                         DecodeF32};
const BlockCodec kCodecF16 = {DType::kF16,
                              0x1.ffdffep+15f,
                              EncodeF16Best,
                              DecodeF16Best,
                              EncodeHalfScalar<F32ToF16>,
                              DecodeHalfScalar<F16ToF32>};
const BlockCodec kCodecBF16 = {DType::kBF16,
                               0x1.fefffep+127f,
                               EncodeBF16Best,
                               DecodeBF16Best,
                               EncodeHalfScalar<F32ToBF16>,
                               DecodeHalfScalar<BF16ToF32>};

uint64_t FirstAbove(const float* x, uint64_t n, float limit) noexcept {
  return HWY_DYNAMIC_DISPATCH(FirstAbove)(x, n, limit);
}

}  // namespace quern
#endif  // HWY_ONCE
