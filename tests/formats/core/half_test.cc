#include "formats/core/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace quern {
namespace {

// Independent oracle: the value of a binary16 number by its definition.
double F16Value(uint16_t h) {
  const int exponent = (h >> 10) & 31;
  const double mantissa = h & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return (h & 0x8000) != 0 ? -magnitude : magnitude;
}

bool IsF16Finite(uint16_t h) { return ((h >> 10) & 31) != 31; }

TEST(Half, DecodesEveryF16) {
  for (uint32_t h = 0; h <= 0xFFFF; ++h) {
    const float f = F16ToF32(static_cast<uint16_t>(h));
    if (!IsF16Finite(static_cast<uint16_t>(h))) {
      EXPECT_EQ(std::isnan(f), (h & 0x3FF) != 0);
      EXPECT_EQ(std::signbit(f), (h & 0x8000) != 0);
    } else {
      ASSERT_EQ(static_cast<double>(f), F16Value(static_cast<uint16_t>(h))) << h;
      ASSERT_EQ(std::signbit(f), (h & 0x8000) != 0) << h;
    }
  }
}

TEST(Half, EveryF16SurvivesARoundTrip) {
  for (uint32_t h = 0; h <= 0xFFFF; ++h) {
    if (!IsF16Finite(static_cast<uint16_t>(h))) continue;
    ASSERT_EQ(F32ToF16(F16ToF32(static_cast<uint16_t>(h))), h);
  }
}

// Between neighbours a < b, everything below the middle rounds to a, above it to b, and the middle
// itself to the one with an even mantissa.
TEST(Half, RoundsToNearestEvenBetweenAllNeighbours) {
  for (uint32_t h = 0; h < 0x7BFF; ++h) {
    const auto lower = static_cast<uint16_t>(h), upper = static_cast<uint16_t>(h + 1);
    const float middle = static_cast<float>((F16Value(lower) + F16Value(upper)) / 2);
    ASSERT_EQ(F32ToF16(middle), (h & 1) != 0 ? upper : lower) << h;
    ASSERT_EQ(F32ToF16(std::nextafter(middle, 0.0f)), lower) << h;
    ASSERT_EQ(F32ToF16(std::nextafter(middle, 1e9f)), upper) << h;
    ASSERT_EQ(F32ToF16(-middle), 0x8000 | ((h & 1) != 0 ? upper : lower)) << h;
  }
}

TEST(Half, F16Extremes) {
  EXPECT_EQ(F32ToF16(65504.0f), 0x7BFF);
  EXPECT_EQ(F32ToF16(std::nextafter(65520.0f, 0.0f)), 0x7BFF);
  EXPECT_EQ(F32ToF16(65520.0f), 0x7C00);
  EXPECT_EQ(F32ToF16(std::numeric_limits<float>::infinity()), 0x7C00);
  EXPECT_EQ(F32ToF16(-std::numeric_limits<float>::infinity()), 0xFC00);
  EXPECT_EQ(F32ToF16(std::numeric_limits<float>::quiet_NaN()), 0x7E00);
  EXPECT_EQ(F32ToF16(std::numeric_limits<float>::denorm_min()), 0);
  EXPECT_EQ(F32ToF16(-0.0f), 0x8000);
}

TEST(Half, BF16RoundsToNearestEven) {
  std::mt19937 random(1);
  for (int i = 0; i < 1'000'000; ++i) {
    const auto bits = static_cast<uint32_t>(random());
    const float f = std::bit_cast<float>(bits);
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(BF16ToF32(F32ToBF16(f))));
      continue;
    }
    const uint32_t lower = bits & 0xFFFF0000u;
    const uint32_t rest = bits & 0xFFFFu;
    const bool up = rest > 0x8000u || (rest == 0x8000u && (bits & 0x10000u) != 0);
    ASSERT_EQ(std::bit_cast<uint32_t>(BF16ToF32(F32ToBF16(f))), lower + (up ? 0x10000u : 0u));
  }
}

}  // namespace
}  // namespace quern
