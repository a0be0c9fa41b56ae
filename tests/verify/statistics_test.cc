#include "verify/statistics.h"

#include <gtest/gtest.h>

#include <cmath>

namespace quern {
namespace {

TEST(Estimate, ByHand) {
  // Mean 3; squares 4 + 1 + 0 + 1 + 4 = 10; error sqrt(10 / 5 / 4).
  const std::vector<double> values = {1, 2, 3, 4, 5};
  const Estimate estimate = EstimateMean(values);
  EXPECT_DOUBLE_EQ(estimate.value, 3);
  EXPECT_DOUBLE_EQ(estimate.standard_error, std::sqrt(0.5));
  const Estimate exp = ExpOf(estimate);
  EXPECT_DOUBLE_EQ(exp.value, std::exp(3.0));
  EXPECT_DOUBLE_EQ(exp.standard_error, std::exp(3.0) * std::sqrt(0.5));
  EXPECT_EQ(EstimateMean(std::vector<double>{7}).standard_error, 0);
}

TEST(Estimate, TheWindowIsTheUnit) {
  // Windows (1, 3), (5, 7), (0, 2): means 2, 6, 1, their mean 3; squares 1 + 9 + 4 = 14; error
  // sqrt(14 / 3 / 2). Predictions taken as independent would give sqrt(34 / 6 / 5).
  const std::vector<double> values = {1, 3, 5, 7, 0, 2};
  EXPECT_EQ(WindowMeans(values, 2), (std::vector<double>{2, 6, 1}));
  const Estimate estimate = EstimateOverWindows(values, 2);
  EXPECT_DOUBLE_EQ(estimate.value, 3);
  EXPECT_DOUBLE_EQ(estimate.standard_error, std::sqrt(14.0 / 6));
  EXPECT_DOUBLE_EQ(EstimateOverWindows(values, 1).standard_error, std::sqrt(34.0 / 30));
  EXPECT_TRUE(std::isnan(EstimateOverWindows(values, 6).standard_error));
}

TEST(Quantile, BetweenTwoEntriesInProportion) {
  const std::vector<double> sorted = {0, 10, 20, 40};
  EXPECT_DOUBLE_EQ(QuantileOf(sorted, 0), 0);
  EXPECT_DOUBLE_EQ(QuantileOf(sorted, 0.5), 15);
  EXPECT_DOUBLE_EQ(QuantileOf(sorted, 0.9), 34);
  EXPECT_DOUBLE_EQ(QuantileOf(sorted, 1), 40);
  EXPECT_DOUBLE_EQ(QuantileOf(std::vector<double>{7}, 0.3), 7);
}

TEST(Distribution, ByHand) {
  // 0 … 9 in two windows, the odd ones first. The median is 4.5; of values up to it, the first
  // window has 2 in 5 (1, 3), the second 3 in 5: error 0.1, so values at 0.4 and 0.6 of 9.
  const std::vector<double> values = {1, 3, 5, 7, 9, 0, 2, 4, 6, 8};
  const Distribution distribution = Describe(values, 5);
  EXPECT_DOUBLE_EQ(distribution.mean.value, 4.5);
  EXPECT_DOUBLE_EQ(distribution.mean.standard_error, 0.5);
  EXPECT_EQ(distribution.minimum, 0);
  EXPECT_EQ(distribution.maximum, 9);
  ASSERT_EQ(distribution.percentiles.size(), std::size(kPercents));
  EXPECT_EQ(distribution.percentiles[4].percent, 50);
  EXPECT_DOUBLE_EQ(distribution.percentiles[4].estimate.value, 4.5);
  EXPECT_NEAR(distribution.percentiles[4].estimate.standard_error, (5.4 - 3.6) / 2, 1e-12);
  // All but the 9, which is in the first window: 0.8 and 1 of the values, error 0.1; the values at
  // 0.89 and 1 (not 1.09) of 9.
  EXPECT_DOUBLE_EQ(distribution.percentiles[7].estimate.value, 8.91);
  EXPECT_NEAR(distribution.percentiles[7].estimate.standard_error, (9 - 8.01) / 2, 1e-12);
}

TEST(StudentQuantile, AsTablesHaveIt) {
  // Source: NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2.
  EXPECT_NEAR(StudentQuantile(0.975, 1), 12.706, 5e-4);
  EXPECT_NEAR(StudentQuantile(0.999, 1), 318.313, 5e-3);
  EXPECT_NEAR(StudentQuantile(0.95, 7), 1.895, 5e-4);
  EXPECT_NEAR(StudentQuantile(0.999, 15), 3.733, 5e-4);
  EXPECT_NEAR(StudentQuantile(0.99, 100), 2.364, 5e-4);
  EXPECT_NEAR(StudentQuantile(0.5, 5), 0, 1e-9);
  // One degree is Cauchy's distribution, two have a closed form too.
  EXPECT_NEAR(StudentQuantile(1 - 1e-5, 1) / std::tan(std::acos(-1.0) * (0.5 - 1e-5)), 1, 1e-6);
  const double p = 0.9997;
  EXPECT_NEAR(StudentQuantile(p, 2), (2 * p - 1) * std::sqrt(2 / (4 * p * (1 - p))), 1e-8);
}

}  // namespace
}  // namespace quern
