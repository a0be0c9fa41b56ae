#include "verify/attention.h"

#include <gtest/gtest.h>

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
          const uint64_t key = ((w * s.context + j) * s.n_kv_heads + kv_head) * s.head_dim;
          double dot = 0;
          for (uint64_t d = 0; d < s.head_dim; ++d) dot += double{q[row + d]} * double{k[key + d]};
          weights.push_back(std::exp(dot / std::sqrt(static_cast<double>(s.head_dim))));
          total += weights.back();
        }
        for (uint64_t j = 0; j < weights.size(); ++j) {
          const uint64_t key = ((w * s.context + j) * s.n_kv_heads + kv_head) * s.head_dim;
          for (uint64_t d = 0; d < s.head_dim; ++d) {
            out[row + d] += weights[j] / total * double{v[key + d]};
          }
        }
      }
    }
  }
  return out;
}

class AttentionTest : public testing::TestWithParam<AttentionShape> {};

TEST_P(AttentionTest, AgreesWithTheDefinition) {
  const AttentionShape s = GetParam();
  std::mt19937 random(5);
  std::uniform_real_distribution<float> uniform(-2.0f, 2.0f);
  std::vector<float> q(s.n_windows * s.n_queries * s.n_heads * s.head_dim);
  std::vector<float> k(s.n_windows * s.context * s.n_kv_heads * s.head_dim), v(k.size());
  for (auto* values : {&q, &k, &v}) {
    for (float& value : *values) value = uniform(random);
  }
  std::vector<float> out(q.size());
  Attend(s, q.data(), k.data(), v.data(), out.data());
  const std::vector<double> expected = Definition(s, q, k, v);
  for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], expected[i], 1e-5) << i;
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, AttentionTest,
    testing::Values(AttentionShape{1, 1, 0, 1, 1, 1, 2}, AttentionShape{2, 7, 0, 7, 4, 2, 6},
                    AttentionShape{3, 10, 5, 4, 3, 1, 8}, AttentionShape{1, 200, 0, 200, 2, 2, 16},
                    AttentionShape{2, 130, 65, 64, 6, 2, 10}));

}  // namespace
}  // namespace quern
