// The types with 32 elements per block, element by element: the specification in code of their
// packing, of ggml's plain rules, and of decode. The SIMD twins are block32-inl.h,
// symmetric32-inl.h and affine32-inl.h. Source: quant/BLOCKS.md.
#pragma once

#include <algorithm>
#include <cmath>

#include "formats/core/bytes.h"
#include "formats/core/half.h"
#include "quant/codec.h"

namespace quern {

// Whether the encoder uses the plain rule: ggml's bytes.
inline bool IsPlain(const EncodeInput& in) {
  return in.effort == Effort::kFast && in.importance == nullptr;
}

// Stores code_of(x[0]) .. code_of(x[31]): five-bit codes begin with a word of their fifth bits;
// byte i of the nibbles holds elements i and i + 16.
template <int kBits, class CodeOf>
void PackCodesScalar(const float* x, CodeOf code_of, uint8_t* out) {
  if constexpr (kBits == 5) {
    uint32_t fifth_bits = 0;
    for (size_t i = 0; i < 32; ++i) fifth_bits |= code_of(x[i]) >> 4 << i;
    StoreLE(out, fifth_bits);
    out += 4;
  }
  for (size_t i = 0; i < 16; ++i) {
    out[i] = static_cast<uint8_t>((code_of(x[i]) & 15) | (code_of(x[i + 16]) & 15) << 4);
  }
}

// Returns code i of what PackCodesScalar stored.
template <int kBits>
int CodeScalar(const uint8_t* codes, size_t i) {
  const int packed = codes[(kBits == 5 ? 4 : 0) + i % 16];
  const int low = i < 16 ? packed & 15 : packed >> 4;
  if constexpr (kBits == 4) return low;
  return low | static_cast<int>(LoadLE<uint32_t>(codes) >> i & 1) << 4;
}

// ggml's codes: v * inverse + offset, rounded down and at most 2^kBits - 1. Where 1 / scale
// overflows, the scale is stored as zero and all codes are 0.
template <int kBits>
unsigned PlainCodeScalar(float v, float inverse, float offset) {
  if (!std::isfinite(inverse)) return 0u;
  return std::min((1u << kBits) - 1, static_cast<unsigned>(v * inverse + offset));
}

template <int kBits>
void EncodePlainSymmetricScalar(const EncodeInput& in, uint8_t* out) {
  constexpr float kHalf = 1 << (kBits - 1);
  const float* x = in.x;
  for (const float* end = x + in.n_rows * in.n_cols; x != end; x += 32, out += 2 + 4 * kBits) {
    float extreme = 0;
    for (size_t i = 0; i < 32; ++i) {
      if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
    }
    const float scale = extreme / -kHalf;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    const auto code_of = [&](float v) { return PlainCodeScalar<kBits>(v, inverse, kHalf + 0.5f); };
    StoreLE(out, F32ToF16(scale));
    PackCodesScalar<kBits>(x, code_of, out + 2);
  }
}

template <int kBits>
void EncodePlainAffineScalar(const EncodeInput& in, uint8_t* out) {
  constexpr float kMostCode = (1 << kBits) - 1;
  const float* x = in.x;
  for (const float* end = x + in.n_rows * in.n_cols; x != end; x += 32, out += 4 + 4 * kBits) {
    float least = x[0], most = x[0];
    for (size_t i = 1; i < 32; ++i) {
      if (x[i] < least) least = x[i];
      if (x[i] > most) most = x[i];
    }
    const float scale = (most - least) / kMostCode;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    const auto code_of = [&](float v) { return PlainCodeScalar<kBits>(v - least, inverse, 0.5f); };
    StoreLE(out, F32ToF16(scale));
    StoreLE(out + 2, F32ToF16(least));
    PackCodesScalar<kBits>(x, code_of, out + 4);
  }
}

template <int kBits>
void DecodeSymmetricScalar(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  for (uint64_t k = 0; k < n_elems; ++k) {
    const uint8_t* block = blocks + k / 32 * (2 + 4 * kBits);
    const int code = CodeScalar<kBits>(block + 2, k % 32) - (1 << (kBits - 1));
    out[k] = static_cast<float>(code) * F16ToF32(LoadLE<uint16_t>(block));
  }
}

template <int kBits>
void DecodeAffineScalar(const uint8_t* blocks, uint64_t n_elems, float* out) noexcept {
  for (uint64_t k = 0; k < n_elems; ++k) {
    const uint8_t* block = blocks + k / 32 * (4 + 4 * kBits);
    const int code = CodeScalar<kBits>(block + 4, k % 32);
    out[k] = static_cast<float>(code) * F16ToF32(LoadLE<uint16_t>(block)) +
             F16ToF32(LoadLE<uint16_t>(block + 2));
  }
}

}  // namespace quern
