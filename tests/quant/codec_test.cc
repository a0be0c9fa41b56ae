// What every codec must do, driven by the table: a new row is tested without writing a test.
#include "quant/codec.h"

#include <gtest/gtest.h>

#include <cmath>

#include "formats/core/half.h"
#include "tests/quant/guarded.h"
#include "tests/quant/vectors.h"

namespace quern {
namespace {

constexpr Effort kEfforts[] = {Effort::kFast, Effort::kNormal, Effort::kBest};

class CodecTest : public testing::TestWithParam<const BlockCodec*> {
 protected:
  const BlockCodec& codec() const { return *GetParam(); }
  const BlockLayout& layout() const { return LayoutOf(codec().type); }
};

TEST_P(CodecTest, EncodesTheSameBytesOnEveryIsa) {
  std::vector<TestVector> vectors = HardVectors(codec().max_abs);
  // An odd number of blocks, so that groups of blocks have a remainder.
  vectors.push_back({"many blocks", GaussianWeights(256 * 37)});
  for (const TestVector& vector : vectors) {
    for (const Effort effort : kEfforts) {
      const auto expected = Encoded(codec(), codec().encode_scalar, vector.x, effort);
      ForEachIsa([&](std::string_view isa) {
        EXPECT_EQ(Encoded(codec(), codec().encode, vector.x, effort), expected)
            << isa << ", " << vector.name << ", effort " << static_cast<int>(effort);
      });
    }
  }
}

TEST_P(CodecTest, DecodesTheSameBitsOnEveryIsa) {
  // Any bytes are valid blocks, infinite scales included.
  std::vector<uint8_t> blocks(layout().block_bytes * 997);
  for (uint64_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<uint8_t>(SplitMix(i) >> 56);
  std::vector<float> expected(997 * layout().block_elems);
  codec().decode_scalar(blocks.data(), expected.size(), expected.data());
  ForEachIsa([&](std::string_view isa) {
    EXPECT_TRUE(SameValues(Decoded(codec(), blocks), expected)) << isa;
  });
}

TEST_P(CodecTest, ZerosStayZeros) {
  const std::vector<float> zeros(1024);
  for (const Effort effort : kEfforts) {
    for (const float y : Decoded(codec(), Encoded(codec(), codec().encode, zeros, effort))) {
      EXPECT_EQ(y, 0.0f);
    }
  }
}

TEST_P(CodecTest, FiniteWeightsGiveFiniteBlocks) {
  for (const TestVector& vector : HardVectors(codec().max_abs)) {
    for (const Effort effort : kEfforts) {
      const auto y = Decoded(codec(), Encoded(codec(), codec().encode, vector.x, effort));
      for (size_t i = 0; i < y.size(); ++i) {
        ASSERT_TRUE(std::isfinite(y[i])) << vector.name << " element " << i;
      }
    }
  }
}

TEST_P(CodecTest, RelativeErrorIsWithinTheTypesBound) {
  // Bounds on ||x - y|| / ||x|| for Gaussian rows, a little above what the types' resolution gives.
  const double bits = layout().bits_per_weight();
  const double bound = bits >= 32 ? 0 : bits >= 16 ? 0.003 : 2.0 * std::pow(2.0, -(bits - 0.5));
  const std::vector<float> x = GaussianWeights(256 * 64);
  for (const Effort effort : kEfforts) {
    const auto y = Decoded(codec(), Encoded(codec(), codec().encode, x, effort));
    double error = 0, norm = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      error += std::pow(static_cast<double>(x[i]) - static_cast<double>(y[i]), 2);
      norm += std::pow(static_cast<double>(x[i]), 2);
    }
    EXPECT_LE(std::sqrt(error / norm), bound) << "effort " << static_cast<int>(effort);
  }
}

TEST_P(CodecTest, StaysInsideItsBuffers) {
  struct Rows {
    uint64_t n_rows, blocks_per_row;
  };
  for (const Rows& rows : std::vector<Rows>{
           {1, 1}, {1, 2}, {1, 15}, {1, 16}, {1, 17}, {1, 33}, {2, 1}, {5, 3}, {17, 1}}) {
    const uint64_t n_rows = rows.n_rows, blocks_per_row = rows.blocks_per_row;
    const uint64_t n_cols = blocks_per_row * layout().block_elems, n = n_rows * n_cols;
    const uint64_t n_bytes = n_rows * blocks_per_row * layout().block_bytes;
    const std::vector<float> x = GaussianWeights(n);
    std::vector<float> weights(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(n_cols));
    for (float& w : weights) w = std::fabs(w);
    for (const bool at_end : {false, true}) {
      GuardedBuffer in(n * sizeof(float), at_end), out(n * sizeof(float), at_end);
      GuardedBuffer blocks(n_bytes, at_end), importance(n_cols * sizeof(float), at_end);
      std::memcpy(in.data(), x.data(), n * sizeof(float));
      std::memcpy(importance.data(), weights.data(), n_cols * sizeof(float));
      for (const Effort effort : kEfforts) {
        for (const bool weighted : {false, true}) {
          const auto expected = Encoded(codec(), codec().encode_scalar, x, effort,
                                        weighted ? weights.data() : nullptr, n_rows);
          ForEachIsa([&](std::string_view isa) {
            std::memset(blocks.data(), 0xAA, n_bytes);
            codec().encode(
                {in.floats(), n_rows, n_cols, weighted ? importance.floats() : nullptr, effort},
                blocks.data());
            EXPECT_EQ(std::memcmp(expected.data(), blocks.data(), n_bytes), 0)
                << isa << ", " << n_rows << " rows of " << blocks_per_row << " blocks, effort "
                << static_cast<int>(effort) << (weighted ? ", importance" : "");
          });
        }
      }
      std::vector<float> decoded(n);
      codec().decode_scalar(blocks.data(), n, decoded.data());
      ForEachIsa([&](std::string_view isa) {
        codec().decode(blocks.data(), n, out.floats());
        EXPECT_TRUE(SameBits({out.floats(), n}, decoded)) << isa << ", " << n << " elements";
      });
    }
  }
}

TEST_P(CodecTest, RowsTogetherEqualRowsAlone) {
  constexpr uint64_t kRows = 7, kCols = 768;
  const std::vector<float> x = GaussianWeights(kRows * kCols);
  std::vector<uint8_t> alone;
  for (uint64_t row = 0; row < kRows; ++row) {
    const auto bytes =
        Encoded(codec(), codec().encode, std::span(x).subspan(row * kCols, kCols));
    alone.insert(alone.end(), bytes.begin(), bytes.end());
  }
  EXPECT_EQ(Encoded(codec(), codec().encode, x, Effort::kNormal, nullptr, kRows), alone);
}

INSTANTIATE_TEST_SUITE_P(All, CodecTest, testing::ValuesIn(AllCodecs()), [](const auto& row) {
  return std::string(NameOf(row.param->type));
});

TEST(FirstAbove, FindsTheFirstOnEveryIsaAtEveryPlace) {
  ForEachIsa([](std::string_view isa) {
    for (uint64_t n = 0; n < 200; ++n) {
      std::vector<float> x(n, -1.0f);
      EXPECT_EQ(FirstNonFinite(x.data(), n), n) << isa;
      for (uint64_t bad = 0; bad < n; bad += 3) {
        x[n - 1] = INFINITY;  // A later one must not be reported.
        x[bad] = bad % 2 == 0 ? NAN : -INFINITY;
        EXPECT_EQ(FirstNonFinite(x.data(), n), bad) << isa;
        x[bad] = 2.5f;
        x[n - 1] = -1.0f;
        EXPECT_EQ(FirstNonFinite(x.data(), n), n) << isa;
        if (bad != n - 1) {
          EXPECT_EQ(FirstAbove(x.data(), n, 2.4f), bad) << isa;
        }
        x[bad] = -1.0f;
      }
    }
  });
}

TEST(Codecs, TableIsFoundByType) {
  for (const BlockCodec* codec : AllCodecs()) EXPECT_EQ(FindCodec(codec->type), codec);
  EXPECT_EQ(FindCodec(DType::kI32), nullptr);
}

}  // namespace
}  // namespace quern
