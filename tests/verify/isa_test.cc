// The same results, within rounding, on every instruction set that this CPU has.
#include "quant/isa.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/verify/synthetic_model.h"
#include "verify/gemm.h"
#include "verify/ops.h"
#include "verify/perplexity.h"

namespace quern {
namespace {

class IsaTest : public testing::TestWithParam<std::string_view> {
 protected:
  void SetUp() override { CapIsa(GetParam()); }
  void TearDown() override { CapIsa("best"); }
};

TEST_P(IsaTest, PortableProduct) {
  constexpr size_t kM = 29, kN = 45, kK = 401;
  std::vector<float> a(kM * kK), w(kN * kK), c(kM * kN);
  for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i * 37 % 101) / 101 - 0.5f;
  for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i * 53 % 97) / 97 - 0.5f;
  PackedMatrix packed;
  packed.PackTransposed(w.data(), kK, kN, kK);
  packed.Multiply(a.data(), kK, kM, c.data(), kN);
  for (size_t i = 0; i < kM; ++i) {
    for (size_t j = 0; j < kN; ++j) {
      double sum = 0;
      for (size_t l = 0; l < kK; ++l) sum += double{a[i * kK + l]} * double{w[j * kK + l]};
      ASSERT_NEAR(c[i * kN + j], sum, 1e-4);
    }
  }
}

TEST_P(IsaTest, PerplexityAndDivergence) {
  const SyntheticStore store({.matrix_type = DType::kQ8_0});
  PerplexityOptions options;
  options.context = 40;
  const auto here = Perplexity(store, SyntheticText(400), options).predictions.nll;
  CapIsa("best");
  const auto best = Perplexity(store, SyntheticText(400), options).predictions.nll;
  ASSERT_EQ(here.size(), best.size());
  for (size_t i = 0; i < best.size(); ++i) EXPECT_NEAR(here[i], best[i], 1e-4);

  const std::vector<float> p = {1, -2, 3, 0.5f, 2.5f, -7, 1, 4, 0}, q = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  DivergenceSums sums_best, sums_here;
  sums_best.Add(p.data(), q.data(), 0, p.size());
  CapIsa(GetParam());
  sums_here.Add(p.data(), q.data(), 0, p.size());
  EXPECT_NEAR(sums_here.Kld(), sums_best.Kld(), 1e-12);
}

INSTANTIATE_TEST_SUITE_P(Isas, IsaTest, testing::ValuesIn(SupportedIsas()),
                         [](const auto& test) { return std::string(test.param); });

// oneDNN uses the best that the CPU has, and can be capped to AVX2: other caps leave the portable product.
TEST(ChooseProduct, OneDnnIsNotUsedBelowAnyOtherCap) {
  for (const std::string_view isa : SupportedIsas()) {
    if (isa == SupportedIsas().front() || isa == "avx2") continue;
    CapIsa(isa);
    EXPECT_EQ(ChooseProduct({}), Product::kPortable) << isa;
  }
  CapIsa("best");
}

}  // namespace
}  // namespace quern
