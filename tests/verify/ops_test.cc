#include "verify/ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "formats/core/half.h"

namespace quern {
namespace {

std::vector<float> Randoms(size_t n, float low, float high, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(low, high);
  std::vector<float> values(n);
  for (float& v : values) v = uniform(random);
  return values;
}

TEST(RmsNorm, ByHand) {
  // Mean of squares (9 + 16) / 2 = 12.5; with eps 3.5 the root is 4.
  const std::array<float, 2> x = {3, 4}, weight = {2, 0.5f};
  std::array<float, 2> out{};
  RmsNorm(x.data(), weight.data(), 2, 3.5f, out.data());
  EXPECT_FLOAT_EQ(out[0], 1.5f);
  EXPECT_FLOAT_EQ(out[1], 0.5f);
}

TEST(RmsNorm, AgreesWithDoubleOnEveryTail) {
  for (const size_t n : {1u, 3u, 8u, 15u, 16u, 17u, 100u}) {
    std::vector<float> x = Randoms(n, -3, 3, 1);
    const std::vector<float> weight = Randoms(n, 0.5f, 2, 2);
    double squares = 0;
    for (const float v : x) squares += double{v} * double{v};
    const double root = std::sqrt(squares / static_cast<double>(n) + 1e-5);
    std::vector<float> expected(n);
    for (size_t i = 0; i < n; ++i) {
      expected[i] = static_cast<float>(double{x[i]} / root * double{weight[i]});
    }
    RmsNorm(x.data(), weight.data(), n, 1e-5f, x.data());  // in place
    for (size_t i = 0; i < n; ++i) EXPECT_NEAR(x[i], expected[i], 1e-6 * std::abs(expected[i]));
  }
}

TEST(RotaryTable, RotatesAdjacentPairs) {
  // Head of 4: frequencies 1 and 100^(-1/2) = 0.1; two heads, position 3.
  const RotaryTable table(0, 5, 4, 100.0, 1.0, {});
  std::array<float, 8> heads = {1, 0, 0, 2, 0, 1, 1, 1};
  table.Rotate(heads.data(), 2, 3);
  const double c0 = std::cos(3.0), s0 = std::sin(3.0), c1 = std::cos(0.3), s1 = std::sin(0.3);
  const std::array<double, 8> expected = {c0, s0, -2 * s1, 2 * c1, -s0, c0, c1 - s1, s1 + c1};
  for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(heads[i], expected[i], 1e-6) << i;
}

TEST(RotaryTable, DivisorsAndLinearFactorSlowTheRotation) {
  const std::array<float, 1> divisors = {8.0f};
  const RotaryTable table(9, 1, 2, 10000.0, 4.0, divisors);
  std::array<float, 2> pair = {1, 0};
  table.Rotate(pair.data(), 1, 9);
  EXPECT_NEAR(pair[0], std::cos(9.0 / 32), 1e-6);
  EXPECT_NEAR(pair[1], std::sin(9.0 / 32), 1e-6);
}

TEST(ExpShifted, DividedBySumIsSoftmaxOnEveryTail) {
  for (const size_t n : {1u, 2u, 7u, 16u, 33u, 500u}) {
    std::vector<float> s = Randoms(n, -30, 30, 3);
    double total = 0;
    for (const float v : s) total += std::exp(0.5 * double{v});
    std::vector<double> expected;
    for (const float v : s) expected.push_back(std::exp(0.5 * double{v}) / total);
    const float max = *std::ranges::max_element(s);
    const ExpSums sums = ExpShifted(s.data(), n, 0.5f);
    EXPECT_EQ(sums.max, 0.5f * max);
    EXPECT_NEAR(sums.sum, total / std::exp(0.5 * double{max}), 2e-6 * sums.sum);
    for (size_t i = 0; i < n; ++i) {
      EXPECT_NEAR(double{s[i]} / sums.sum, expected[i], 2e-6 * expected[i] + 1e-12);
    }
  }
}

TEST(ExpShifted, LargeScoresDoNotOverflow) {
  std::array<float, 3> s = {1e30f, 1e30f, -1e30f};
  const ExpSums sums = ExpShifted(s.data(), 3, 1.0f);
  EXPECT_FLOAT_EQ(s[0], 1);
  EXPECT_FLOAT_EQ(s[1], 1);
  EXPECT_FLOAT_EQ(s[2], 0);
  EXPECT_EQ(sums.sum, 2);
}

TEST(SwiGlu, AgreesWithDoubleOnEveryTail) {
  for (const size_t n : {1u, 9u, 16u, 31u, 64u}) {
    std::vector<float> gate = Randoms(n, -20, 20, 4);
    const std::vector<float> up = Randoms(n, -2, 2, 5);
    const std::vector<float> z = gate;
    SwiGlu(gate.data(), up.data(), n);
    for (size_t i = 0; i < n; ++i) {
      const double expected = double{z[i]} / (1 + std::exp(-double{z[i]})) * double{up[i]};
      EXPECT_NEAR(gate[i], expected, 1e-6 * std::abs(expected) + 1e-12);
    }
  }
}

TEST(SwiGlu, ExtremeGates) {
  std::vector<float> gate(32, -200.0f);
  const std::vector<float> up(32, 3.0f);
  gate[1] = 200.0f;
  gate[2] = -3e38f;
  SwiGlu(gate.data(), up.data(), gate.size());
  EXPECT_NEAR(gate[0], 0.0f, 1e-30f);
  EXPECT_FLOAT_EQ(gate[1], 600.0f);
  EXPECT_EQ(gate[2], 0.0f);
}

TEST(LogitSums, ByHand) {
  // exp: 1, 2, 4 of 7; in two pieces, the maximum in the second.
  const std::array<float, 3> logits = {0.0f, std::log(2.0f), std::log(4.0f)};
  LogitSums sums;
  sums.Add(logits.data(), 0, 2);
  sums.Add(logits.data() + 2, 2, 1);
  EXPECT_EQ(sums.top, 2u);
  EXPECT_NEAR(sums.LogTotal(), std::log(7.0), 1e-7);
}

TEST(LogitSums, TheFirstMaximumWins) {
  const std::array<float, 6> logits = {1, 5, 5, 2, 5, 0};
  LogitSums sums;
  for (uint64_t i = 0; i < 6; i += 2) sums.Add(logits.data() + i, i, 2);
  EXPECT_EQ(sums.top, 1u);
}

TEST(LogitSums, PiecesDoNotMatter) {
  const std::vector<float> logits = Randoms(1000, -500, 500, 6);
  LogitSums whole, pieces;
  whole.Add(logits.data(), 0, logits.size());
  for (uint64_t i = 0; i < logits.size(); i += 37) {
    pieces.Add(logits.data() + i, i, std::min<uint64_t>(37, logits.size() - i));
  }
  EXPECT_EQ(whole.top, pieces.top);
  EXPECT_EQ(whole.max, pieces.max);
  EXPECT_NEAR(whole.LogTotal(), pieces.LogTotal(), 1e-12);
}

TEST(DivergenceSums, ByHand) {
  // P = (1/2, 1/4, 1/4), Q = (1/4, 1/4, 1/2): KL = 1/2 ln 2 + 0 + 1/4 ln 1/2 = 1/4 ln 2.
  // Shifts of all logits change nothing.
  const float ln2 = std::log(2.0f);
  const std::array<float, 3> p = {10 + ln2, 10, 10}, q = {-7, -7, -7 + ln2};
  DivergenceSums sums;
  for (uint64_t i = 0; i < 3; ++i) sums.Add(p.data() + i, q.data() + i, i, 1);
  EXPECT_NEAR(sums.Kld(), 0.25 * std::log(2.0), 1e-6);
  EXPECT_EQ(sums.p.top, 0u);
  EXPECT_EQ(sums.q.top, 2u);
}

TEST(DivergenceSums, EqualRowsGiveZeroAndRandomOnesAgreeWithTheDefinition) {
  const std::vector<float> p = Randoms(777, -15, 15, 7);
  std::vector<float> q = Randoms(777, -0.1f, 0.1f, 8);
  for (size_t i = 0; i < q.size(); ++i) q[i] += p[i];
  DivergenceSums same, other;
  for (uint64_t i = 0; i < p.size(); i += 100) {
    const size_t n = std::min<size_t>(100, p.size() - i);
    same.Add(p.data() + i, p.data() + i, i, n);
    other.Add(p.data() + i, q.data() + i, i, n);
  }
  EXPECT_EQ(same.Kld(), 0.0);
  double zp = 0, zq = 0, kld = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    zp += std::exp(double{p[i]});
    zq += std::exp(double{q[i]});
  }
  for (size_t i = 0; i < p.size(); ++i) {
    const double log_p = double{p[i]} - std::log(zp), log_q = double{q[i]} - std::log(zq);
    kld += std::exp(log_p) * (log_p - log_q);
  }
  EXPECT_NEAR(other.Kld(), kld, 1e-12);
}

TEST(RoundToBF16, AsTheDefinitionForEveryKindOfNumber) {
  std::vector<float> values = {0.0f,
                               -0.0f,
                               1.0f,
                               1.00390625f,
                               1.01171875f,
                               -3.3f,
                               1e-40f,
                               3.3e38f,
                               std::numeric_limits<float>::infinity(),
                               -std::numeric_limits<float>::quiet_NaN()};
  for (uint32_t i = 0; i < 1000; ++i)
    values.push_back(std::ldexp(static_cast<float>(i * 77u + 1), static_cast<int>(i % 60) - 40));
  std::vector<uint16_t> rounded(values.size());
  RoundToBF16(values.data(), values.size(), rounded.data());
  for (size_t i = 0; i < values.size(); ++i)
    EXPECT_EQ(rounded[i], F32ToBF16(values[i])) << values[i];
}

}  // namespace
}  // namespace quern
