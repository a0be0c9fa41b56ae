// The plain rules give ggml's bytes, and every type decodes to ggml's bits. Known hashes cover
// machines without ggml; where QUERN_GGML_BASE names a libggml-base.so (npm's
// @node-llama-cpp/linux-x64 3.22.1 has one), the library itself is asked.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <cstdlib>
#include <random>

#include "tests/quant/vectors.h"

namespace quern {
namespace {

// Types whose bytes at effort fast are ggml's, with XXH64 of ggml's output for
// GaussianWeights(1024 * 4096).
struct PlainRule {
  DType type;
  uint64_t hash;
};
constexpr PlainRule kPlainRules[] = {
    {DType::kF16, 0x46d8ea8ec86190b3},
    {DType::kBF16, 0xc852d2c983d54232},
    {DType::kQ4_0, 0x82a525e88979d7ac},
    {DType::kQ4_1, 0x204690fc8916e43f},
    {DType::kQ5_0, 0x0ce8749698dea021},
    {DType::kQ5_1, 0x499e28128fb82bab},
    {DType::kQ8_0, 0x106e1beee4004d38},
    {DType::kMXFP4, 0x19969779c7a0e891},
};

TEST(GgmlBytes, HashesOfFourMillionWeights) {
  const std::vector<float> x = GaussianWeights(1024 * 4096);
  if (XXH64(x.data(), x.size() * sizeof(float), 0) != 0xec81606a1d511a70) {
    GTEST_SKIP() << "this machine's libm makes other test weights";
  }
  for (const PlainRule& rule : kPlainRules) {
    const BlockCodec& codec = *FindCodec(rule.type);
    ForEachIsa([&](std::string_view isa) {
      const auto bytes = Encoded(codec, codec.encode, x, Effort::kFast);
      EXPECT_EQ(XXH64(bytes.data(), bytes.size(), 0), rule.hash) << NameOf(rule.type) << " on " << isa;
    });
  }
}

class GgmlLibrary : public testing::Test {
 protected:
  void SetUp() override {
    const char* path = std::getenv("QUERN_GGML_BASE");
    if (path == nullptr) GTEST_SKIP() << "QUERN_GGML_BASE names no libggml-base.so";
    library_ = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library_, nullptr) << dlerror();
  }

  template <class Function>
  Function Symbol(const std::string& name) {
    auto* symbol = reinterpret_cast<Function>(dlsym(library_, name.c_str()));
    EXPECT_NE(symbol, nullptr) << name;
    return symbol;
  }

  std::vector<uint8_t> Quantized(DType type, const std::vector<float>& x,
                                 const float* importance = nullptr, int64_t n_rows = 1) {
    const auto quantize = Symbol<size_t (*)(int, const float*, void*, int64_t, int64_t, int64_t,
                                            const float*)>("ggml_quantize_chunk");
    std::vector<uint8_t> out(*RowBytes(type, x.size()));
    quantize(static_cast<int>(LayoutOf(type).gguf_id), x.data(), out.data(), 0, n_rows,
             static_cast<int64_t>(x.size()) / n_rows, importance);
    return out;
  }

  std::vector<float> Dequantized(DType type, const std::vector<uint8_t>& blocks) {
    std::string name(NameOf(type));
    if (name.ends_with("_k")) name.back() = 'K';
    name = name == "f16"    ? "ggml_fp16_to_fp32_row"
           : name == "bf16" ? "ggml_bf16_to_fp32_row"
                            : "dequantize_row_" + name;
    const BlockLayout& layout = LayoutOf(type);
    std::vector<float> y(blocks.size() / layout.block_bytes * layout.block_elems);
    Symbol<void (*)(const void*, float*, int64_t)>(name)(blocks.data(), y.data(),
                                                         static_cast<int64_t>(y.size()));
    return y;
  }

 private:
  void* library_ = nullptr;
};

// mxfp4's rule would turn a negative number into an unsigned byte here.
bool RuleIsUndefined(DType type, std::span<const float> block) {
  if (type != DType::kMXFP4) return false;
  float most = 0;
  for (const float x : block) most = std::max(most, std::fabs(x));
  return most != 0 && most < 0x1p-125f;
}

TEST_F(GgmlLibrary, PlainRulesGiveItsBytes) {
  for (const PlainRule& rule : kPlainRules) {
    const DType type = rule.type;
    const BlockCodec& codec = *FindCodec(type);
    std::vector<TestVector> vectors = HardVectors(codec.max_abs);
    vectors.push_back({"weights", GaussianWeights(256 * 1000, 3)});
    // Floats with random exponents, so that every block has another scale.
    std::vector<float> wild(256 * 1000);
    for (uint64_t i = 0; i < wild.size(); ++i) {
      wild[i] = static_cast<float>(Gauss(9, i)) *
                std::ldexp(1.0f, static_cast<int>(SplitMix(i / 32) % 150) - 140);
    }
    vectors.push_back({"wild", std::move(wild)});
    // Just below and at powers of two, where rounded logarithms jump.
    std::vector<float> powers(256 * 1000);
    for (uint64_t i = 0; i < powers.size(); ++i) {
      const float power = std::ldexp(1.0f, static_cast<int>(i / 32 % 140) - 124);
      const auto below = static_cast<float>(i / 32 / 140);
      powers[i] = i % 32 == 7 ? power * (1.0f - below * 0x1p-24f) : power * 0.01f;
    }
    vectors.push_back({"powers", std::move(powers)});
    for (const TestVector& vector : vectors) {
      const auto ours = Encoded(codec, codec.encode, vector.x, Effort::kFast);
      const auto theirs = Quantized(type, vector.x);
      const BlockLayout& layout = LayoutOf(type);
      for (size_t b = 0; b < ours.size() / layout.block_bytes; ++b) {
        if (RuleIsUndefined(type, std::span(vector.x).subspan(b * layout.block_elems,
                                                              layout.block_elems))) {
          continue;
        }
        const size_t at = b * layout.block_bytes;
        ASSERT_EQ(std::memcmp(&ours[at], &theirs[at], layout.block_bytes), 0)
            << layout.name << ", " << vector.name << ", block " << b;
      }
    }
  }
}

// Returns the sum of w (x - y)^2; without importance w is 1.
double SquaredError(std::span<const float> x, std::span<const float> y,
                    std::span<const float> importance) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const float w = importance.empty() ? 1.0f : importance[i % importance.size()];
    const double difference = static_cast<double>(x[i]) - static_cast<double>(y[i]);
    sum += static_cast<double>(w) * difference * difference;
  }
  return sum;
}

TEST_F(GgmlLibrary, ErrorsAtNormalEffortAreNoLarger) {
  constexpr uint64_t kCols = 1024, kRows = 64;
  std::vector<TestVector> vectors = {{"outliers", GaussianWeights(kCols * kRows)}};
  // Student's t with four degrees of freedom: heavy tails.
  std::vector<float> heavy(kCols * kRows);
  for (uint64_t i = 0; i < heavy.size(); ++i) {
    double chi = 0;
    for (uint64_t k = 4; k < 8; ++k) chi += Gauss(k, i) * Gauss(k, i);
    heavy[i] = static_cast<float>(0.02 * Gauss(3, i) / std::sqrt(chi / 4));
  }
  vectors.push_back({"heavy tails", std::move(heavy)});
  // Weights whose scales are subnormal or vanish.
  for (const TestVector& hard : HardVectors(1.0f)) {
    if (hard.name == "tiny") vectors.push_back(hard);
  }
  std::vector<float> importance(kCols);
  for (uint64_t i = 0; i < kCols; ++i) {
    importance[i] = static_cast<float>(std::exp(Gauss(119, i)));
  }
  for (const BlockCodec* codec : AllCodecs()) {
    if (IsFloat(codec->type)) continue;
    for (const TestVector& vector : vectors) {
      for (const bool weighted : {false, true}) {
        const float* w = weighted ? importance.data() : nullptr;
        const uint64_t n_rows = vector.x.size() / kCols;
        const auto ours = Decoded(
            *codec, Encoded(*codec, codec->encode, vector.x, Effort::kNormal, w, n_rows));
        const auto theirs = Decoded(
            *codec, Quantized(codec->type, vector.x, w, static_cast<int64_t>(n_rows)));
        const std::span<const float> weights(importance.data(), weighted ? kCols : 0);
        const double our_error = SquaredError(vector.x, ours, weights);
        const double their_error = SquaredError(vector.x, theirs, weights);
        EXPECT_LE(our_error, their_error) << NameOf(codec->type) << ", " << vector.name
                                          << (weighted ? ", importance" : "");
      }
    }
  }
}

TEST_F(GgmlLibrary, RandomBlocksDecodeToItsBits) {
  for (const BlockCodec* codec : AllCodecs()) {
    if (codec->type == DType::kF32) continue;
    const BlockLayout& layout = LayoutOf(codec->type);
    std::vector<uint8_t> blocks(layout.block_bytes * 20000);
    std::mt19937_64 random(5);
    std::generate(blocks.begin(), blocks.end(), [&] { return static_cast<uint8_t>(random() >> 56); });
    const auto expected = Dequantized(codec->type, blocks);
    ForEachIsa([&](std::string_view isa) {
      const auto y = Decoded(*codec, blocks);
      for (size_t i = 0; i < y.size(); ++i) {
        // Scales may be NaN here; which NaN comes out of a product is the CPU's choice.
        if (std::isnan(y[i]) && std::isnan(expected[i])) continue;
        ASSERT_TRUE(SameBits({&y[i], 1}, {&expected[i], 1}))
            << layout.name << " on " << isa << ", element " << i << ": " << y[i] << ", ggml "
            << expected[i];
      }
    });
  }
}

}  // namespace
}  // namespace quern
