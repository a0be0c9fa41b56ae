#include "verify/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace quern {
namespace {

// The definition, in double.
std::vector<double> Definition(const AttentionShape& s, const std::vector<float>& q,
                               const std::vector<float>& k, const std::vector<float>& v) {
  std::vector<double> out(s.n_windows * s.n_queries * s.n_heads * s.head_dim);
  for (uint64_t w = 0; w < s.n_windows; ++w) {
    for (uint64_t i = 0; i < s.n_queries; ++i) {
      for (uint64_t head = 0; head < s.n_heads; ++head) {
        const uint64_t kv_head = head / (s.n_heads / s.n_kv_heads);
        const uint64_t row = ((w * s.n_queries + i) * s.n_heads + head) * s.head_dim;
        std::vector<double> weights;
        double total = 0;
        for (uint64_t j = 0; j <= s.query_begin + i; ++j) {
          const uint64_t key =
              ((w * (s.query_begin + s.n_queries) + j) * s.n_kv_heads + kv_head) * s.head_dim;
          double dot = 0;
          for (uint64_t d = 0; d < s.head_dim; ++d) dot += double{q[row + d]} * double{k[key + d]};
          weights.push_back(std::exp(dot / std::sqrt(static_cast<double>(s.head_dim))));
          total += weights.back();
        }
        for (uint64_t j = 0; j < weights.size(); ++j) {
          const uint64_t key =
              ((w * (s.query_begin + s.n_queries) + j) * s.n_kv_heads + kv_head) * s.head_dim;
          for (uint64_t d = 0; d < s.head_dim; ++d) {
            out[row + d] += weights[j] / total * double{v[key + d]};
          }
        }
      }
    }
  }
  return out;
}

// All of it: keys and values [n_windows * context], shown in blocks.
std::vector<float> AttentionOf(const AttentionShape& s, const std::vector<float>& q,
                               const std::vector<float>& k, const std::vector<float>& v) {
  const uint64_t context = s.query_begin + s.n_queries, width = s.n_kv_heads * s.head_dim;
  std::vector<float> out(q.size());
  Attention attention(s, q.data(), out.data());
  for (uint64_t begin = 0; begin < context; begin += kKeyBlock) {
    attention.Add(begin, std::min(kKeyBlock, context - begin), k.data() + begin * width,
                  v.data() + begin * width, context);
  }
  attention.Finish();
  return out;
}

std::vector<float> Randoms(size_t n, std::mt19937& random) {
  std::uniform_real_distribution<float> uniform(-2.0f, 2.0f);
  std::vector<float> values(n);
  for (float& value : values) value = uniform(random);
  return values;
}

class AttentionTest : public testing::TestWithParam<AttentionShape> {};

TEST_P(AttentionTest, AgreesWithTheDefinition) {
  const AttentionShape s = GetParam();
  std::mt19937 random(5);
  const uint64_t context = s.query_begin + s.n_queries;
  const auto q = Randoms(s.n_windows * s.n_queries * s.n_heads * s.head_dim, random);
  const auto k = Randoms(s.n_windows * context * s.n_kv_heads * s.head_dim, random);
  const auto v = Randoms(k.size(), random);
  const std::vector<float> out = AttentionOf(s, q, k, v);
  const std::vector<double> expected = Definition(s, q, k, v);
  for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], expected[i], 1e-5) << i;
}

// Queries in parts, each with the keys before it, give the bits that all at once give.
TEST(AttentionParts, SplittingQueriesChangesNoBit) {
  const AttentionShape whole = {1, 0, 2 * kKeyBlock + 700, 2, 1, 4};
  std::mt19937 random(6);
  const auto q = Randoms(whole.n_queries * 8, random);
  const auto k = Randoms(whole.n_queries * 4, random), v = Randoms(k.size(), random);
  const std::vector<float> expected = AttentionOf(whole, q, k, v);
  for (const uint64_t part : {512u, 1000u, 4096u, 5000u}) {
    std::vector<float> out;
    for (uint64_t begin = 0; begin < whole.n_queries; begin += part) {
      AttentionShape s = whole;
      s.query_begin = begin;
      s.n_queries = std::min(part, whole.n_queries - begin);
      const auto first = q.begin() + static_cast<ptrdiff_t>(begin * 8);
      const std::vector<float> rows(first, first + static_cast<ptrdiff_t>(s.n_queries * 8));
      const std::vector<float> some = AttentionOf(s, rows, k, v);
      out.insert(out.end(), some.begin(), some.end());
    }
    EXPECT_EQ(out, expected) << part;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, AttentionTest,
    testing::Values(AttentionShape{1, 0, 1, 1, 1, 2}, AttentionShape{2, 0, 7, 4, 2, 6},
                    AttentionShape{3, 5, 4, 3, 1, 8}, AttentionShape{1, 0, 200, 2, 2, 16},
                    AttentionShape{2, 65, 64, 6, 2, 10},
                    // Across blocks of keys: the first query sees one, two, three of them.
                    AttentionShape{2, kKeyBlock - 70, 130, 2, 1, 4},
                    AttentionShape{1, kKeyBlock, 100, 2, 2, 6},
                    AttentionShape{1, 2 * kKeyBlock - 1, 3, 1, 1, 4}));

}  // namespace
}  // namespace quern
