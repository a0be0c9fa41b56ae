#include "verify/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "formats/core/error.h"
#include "formats/core/half.h"

namespace quern {
namespace {

struct Matrices {
  size_t m, n, k, a_stride;
  std::vector<float> a, w;
  std::vector<double> product;    // [m, n]
  std::vector<double> magnitude;  // sums of |a w|: what rounding errors are proportional to

  Matrices(size_t m_, size_t n_, size_t k_) : m(m_), n(n_), k(k_), a_stride(k_ + 3) {
    std::mt19937 random(static_cast<unsigned>(m * 7919 + n * 104729 + k));
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    a.resize(m * a_stride);
    w.resize(n * k);
    for (float& v : a) v = uniform(random);
    for (float& v : w) v = uniform(random);
    for (size_t i = 0; i < m; ++i) {
      for (size_t j = 0; j < n; ++j) {
        double sum = 0, size = 0;
        for (size_t l = 0; l < k; ++l) {
          const double term = double{a[i * a_stride + l]} * double{w[j * k + l]};
          sum += term;
          size += std::abs(term);
        }
        product.push_back(sum);
        magnitude.push_back(size);
      }
    }
  }
};

void ExpectProduct(const Matrices& data, const std::vector<float>& c, size_t c_stride,
                   double relative) {
  for (size_t i = 0; i < data.m; ++i) {
    for (size_t j = 0; j < data.n; ++j) {
      const size_t at = i * data.n + j;
      ASSERT_NEAR(c[i * c_stride + j], data.product[at], relative * data.magnitude[at] + 1e-30)
          << "row " << i << " column " << j << " of " << data.m << "x" << data.n << "x" << data.k;
    }
  }
}

std::vector<Product> Products() {
  std::vector<Product> products = {Product::kPortable};
  const Product best = ChooseProduct({});
  if (best != Product::kPortable) products.push_back(best);
  return products;
}

class GemmTest : public testing::TestWithParam<std::tuple<size_t, size_t, size_t>> {};

TEST_P(GemmTest, EveryProductAgreesWithDouble) {
  const auto [m, n, k] = GetParam();
  const Matrices data(m, n, k);
  for (const Product product : Products()) {
    WeightTile tile(product);
    const size_t c_stride = n + 5;
    constexpr float kUntouched = 12345.0f;
    std::vector<float> c(m * c_stride, kUntouched);
    tile.Fill(data.w.data(), n, k);
    tile.Multiply({.f32 = data.a.data(), .stride = data.a_stride}, m, c.data(), c_stride);
    ExpectProduct(data, c, c_stride, 1e-6);
    for (size_t i = 0; i < m; ++i) {
      for (size_t j = n; j < c_stride; ++j) ASSERT_EQ(c[i * c_stride + j], kUntouched);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(OddShapes, GemmTest,
                         testing::Combine(testing::Values(1, 2, 11, 12, 13, 67),
                                          testing::Values(1, 7, 31, 32, 33, 130),
                                          testing::Values(1, 3, 64, 383, 384, 385, 800)));

TEST(PackedMatrix, PlainAndTransposedPackingGiveTheSameBits) {
  const Matrices data(29, 45, 401);
  std::vector<float> plain(data.k * data.n);
  for (size_t j = 0; j < data.n; ++j) {
    for (size_t l = 0; l < data.k; ++l) plain[l * data.n + j] = data.w[j * data.k + l];
  }
  PackedMatrix a, b;
  a.PackTransposed(data.w.data(), data.k, data.n, data.k);
  b.Pack(plain.data(), data.n, data.k, data.n);
  std::vector<float> ca(data.m * data.n), cb(data.m * data.n);
  a.Multiply(data.a.data(), data.a_stride, data.m, ca.data(), data.n);
  b.Multiply(data.a.data(), data.a_stride, data.m, cb.data(), data.n);
  EXPECT_EQ(ca, cb);
}

TEST(PackedMatrix, APartIsTheProductOfThePart) {
  const Matrices whole(17, 70, 500);
  PackedMatrix packed;
  packed.PackTransposed(whole.w.data(), whole.k, whole.n, whole.k);
  for (const auto& [used_k, used_n] : {std::pair<size_t, size_t>{500, 70}, {499, 33}, {384, 32},
                                       {385, 64}, {100, 1}}) {
    std::vector<float> part(whole.m * used_n);
    packed.MultiplyPart(whole.a.data(), whole.a_stride, whole.m, used_k, used_n, part.data(),
                        used_n);
    for (size_t i = 0; i < whole.m; ++i) {
      for (size_t j = 0; j < used_n; ++j) {
        double sum = 0;
        for (size_t l = 0; l < used_k; ++l) {
          sum += double{whole.a[i * whole.a_stride + l]} * double{whole.w[j * whole.k + l]};
        }
        ASSERT_NEAR(part[i * used_n + j], sum, 1e-4);
      }
    }
  }
}

TEST(PackedMatrix, RowsDoNotDependOnHowTheyAreSplit) {
  const Matrices data(50, 40, 700);
  PackedMatrix packed;
  packed.PackTransposed(data.w.data(), data.k, data.n, data.k);
  std::vector<float> whole(data.m * data.n), split(data.m * data.n);
  packed.Multiply(data.a.data(), data.a_stride, data.m, whole.data(), data.n);
  for (size_t first = 0; first < data.m; first += 7) {
    packed.Multiply(data.a.data() + first * data.a_stride, data.a_stride,
                    std::min<size_t>(7, data.m - first), split.data() + first * data.n, data.n);
  }
  EXPECT_EQ(whole, split);
}

TEST(WeightTile, IsFilledAgainWithAnotherShape) {
  for (const Product product : Products()) {
    WeightTile tile(product);
    for (const auto& [n, k] : {std::pair<size_t, size_t>{40, 300}, {8, 20}, {100, 500}}) {
      const Matrices data(5, n, k);
      std::vector<float> c(data.m * n);
      tile.Fill(data.w.data(), n, k);
      tile.Multiply({.f32 = data.a.data(), .stride = data.a_stride}, data.m, c.data(), n);
      ExpectProduct(data, c, n, 1e-6);
    }
  }
}

TEST(WeightTile, BF16IsTheProductOfRoundedOperands) {
  Product product;
  try {
    product = ChooseProduct({.compute = Compute::kBF16});
  } catch (const Error&) {
    GTEST_SKIP() << "built without oneDNN";
  }
  WeightTile tile(product);
  for (const auto& [m, n, k] : {std::tuple<size_t, size_t, size_t>{5, 40, 300}, {600, 128, 64},
                                {512, 33, 128}, {1, 1, 2}, {5, 40, 300}}) {
    Matrices data(m, n, k);
    for (float& v : data.w) v = BF16ToF32(F32ToBF16(v));
    std::vector<uint16_t> a(data.a.size());
    for (size_t i = 0; i < a.size(); ++i) a[i] = F32ToBF16(data.a[i]);
    std::vector<float> c(m * n);
    tile.Fill(data.w.data(), n, k);
    tile.Multiply({.bf16 = a.data(), .stride = data.a_stride}, m, c.data(), n);
    for (size_t i = 0; i < m; ++i) {
      for (size_t j = 0; j < n; ++j) {
        double sum = 0, size = 0;
        for (size_t l = 0; l < k; ++l) {
          const double term =
              double{BF16ToF32(a[i * data.a_stride + l])} * double{data.w[j * k + l]};
          sum += term;
          size += std::abs(term);
        }
        ASSERT_NEAR(c[i * n + j], sum, 1e-5 * size) << m << "x" << n << "x" << k;
      }
    }
  }
}

TEST(ChooseProduct, PortableWhereAskedFor) {
  EXPECT_EQ(ChooseProduct({.portable_product = true}), Product::kPortable);
  try {
    ChooseProduct({.compute = Compute::kBF16, .portable_product = true});
    FAIL() << "bf16 without oneDNN was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "compute.bf16");
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
  }
}

}  // namespace
}  // namespace quern
