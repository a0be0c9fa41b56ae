// 8-bit floats of checkpoints, widened exactly.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "formats/core/half.h"

namespace quern {

// Returns the value of an E4M3 number ("FN": no infinity, 0x7F and 0xFF are NaN). Exact.
// Source: OCP 8-bit Floating Point Specification 1.0, table 1.
constexpr float E4M3ToF32(uint8_t code) {
  const uint32_t exponent = code >> 3 & 15u, mantissa = code & 7u;
  if (exponent == 15 && mantissa == 7) return std::numeric_limits<float>::quiet_NaN();
  const float magnitude = exponent == 0
                              ? static_cast<float>(mantissa) * 0x1p-9f
                              : std::bit_cast<float>((exponent + 120u) << 23 | mantissa << 20);
  return code & 0x80u ? -magnitude : magnitude;
}

// Returns the value of an E5M2 number: the upper byte of a binary16. Exact.
constexpr float E5M2ToF32(uint8_t code) { return F16ToF32(static_cast<uint16_t>(code << 8)); }

}  // namespace quern
