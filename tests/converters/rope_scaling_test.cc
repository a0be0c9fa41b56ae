#include "converters/rope_scaling.h"

#include <gtest/gtest.h>

namespace quern {
namespace {

// The divisors that are neither 1 nor the factor, from files in circulation.
struct Case {
  uint32_t head_dim;
  double factor;
  size_t n_ones;
  std::vector<double> between;
};

TEST(RopeDivisors, AreThoseOfTheReleases) {
  const std::vector<Case> cases = {
      {128, 8, 29, {1.207484, 1.553415, 2.026313, 2.69453, 3.684253, 5.257327}},  // 3.1, 3.3
      {64, 32, 15, {1.651329, 3.292263, 9.66673}},                                // 3.2 1B
      {128, 32, 29, {1.234937, 1.651329, 2.276659, 3.292263, 5.171597, 9.66673}}, // 3.2 3B
  };
  for (const Case& c : cases) {
    const std::vector<float> divisors = RopeDivisors(500000, c.head_dim, {.factor = c.factor});
    ASSERT_EQ(divisors.size(), c.head_dim / 2);
    for (size_t i = 0; i < divisors.size(); ++i) {
      const double want = i < c.n_ones                      ? 1.0
                          : i < c.n_ones + c.between.size() ? c.between[i - c.n_ones]
                                                            : c.factor;
      EXPECT_NEAR(divisors[i], want, want * 1e-6) << "head_dim " << c.head_dim << ", pair " << i;
    }
  }
}

}  // namespace
}  // namespace quern
