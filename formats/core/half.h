// The definition of f16 and bf16 conversion in quern. quant/half-inl.h is its SIMD twin, equal for
// every input; nothing else converts.
// Source: IEEE 754-2019 binary16; bfloat16 = the upper half of binary32.
#pragma once

#include <bit>
#include <cstdint>

namespace quern {

// Returns the value of the binary16 number `h`. Exact; a NaN keeps its payload and becomes quiet.
constexpr float F16ToF32(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t exponent = (h >> 10) & 0x1Fu;
  const uint32_t mantissa = h & 0x3FFu;
  if (exponent == 0) {
    // Zero or subnormal: mantissa * 2^-24 is exact in binary32.
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  if (exponent == 31) {
    const uint32_t quiet = mantissa != 0 ? 0x00400000u : 0u;
    return std::bit_cast<float>(sign | 0x7F800000u | quiet | (mantissa << 13));
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

// Returns `f` rounded to the nearest binary16 number, ties to even. Subnormals are kept, overflow
// becomes infinity, and any NaN becomes 0x7E00 with its sign.
constexpr uint16_t F32ToF16(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return static_cast<uint16_t>(sign | 0x7E00u);
  if (magnitude >= 0x477FF000u) return static_cast<uint16_t>(sign | 0x7C00u);  // >= 65520
  if (magnitude < 0x38800000u) {               // Below 2^-14: the result is subnormal or zero.
    if (magnitude < 0x33000000u) return sign;  // Below 2^-25 everything rounds to zero.
    const uint32_t shift = 126u - (magnitude >> 23);  // 14..24
    const uint32_t mantissa = (magnitude & 0x7FFFFFu) | 0x800000u;
    const uint32_t kept = mantissa >> shift;
    const uint32_t rest = mantissa & ((1u << shift) - 1u);
    const uint32_t half = 1u << (shift - 1u);
    const uint32_t round_up = (rest > half || (rest == half && (kept & 1u) != 0)) ? 1u : 0u;
    return static_cast<uint16_t>(sign | (kept + round_up));
  }
  // Rebias the exponent, then add just under half a unit (half a unit where the kept part is odd);
  // a carry into the exponent is the right result.
  const uint32_t rounded = magnitude - 0x38000000u + 0xFFFu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

// Returns the value of the bfloat16 number `b`. Exact.
constexpr float BF16ToF32(uint16_t b) {
  return std::bit_cast<float>(static_cast<uint32_t>(b) << 16);
}

// Returns `f` rounded to the nearest bfloat16 number, ties to even. Subnormals are kept, overflow
// becomes infinity, and a NaN becomes quiet with the upper half of its payload.
constexpr uint16_t F32ToBF16(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 64u);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

}  // namespace quern
