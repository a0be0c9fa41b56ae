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

// Squared errors of both encoders.
struct Errors {
  double ours = 0, theirs = 0;
};

class GgmlErrors : public GgmlLibrary {
 protected:
  static constexpr uint64_t kCols = 1024;

  static std::vector<float> LogNormalImportance(uint64_t seed) {
    std::vector<float> importance(kCols);
    for (uint64_t i = 0; i < kCols; ++i) {
      importance[i] = static_cast<float>(std::exp(Gauss(seed, i)));
    }
    return importance;
  }

  // Of rows of kCols weights at effort normal; without importance where it is empty.
  Errors ErrorsOf(const BlockCodec& codec, const std::vector<float>& x,
                  const std::vector<float>& importance) {
    const uint64_t n_rows = x.size() / kCols;
    const float* w = importance.empty() ? nullptr : importance.data();
    const auto ours = Decoded(codec, Encoded(codec, codec.encode, x, Effort::kNormal, w, n_rows));
    const auto theirs = Decoded(codec, Quantized(codec.type, x, w, static_cast<int64_t>(n_rows)));
    return {SquaredError(x, ours, importance), SquaredError(x, theirs, importance)};
  }
};

TEST_F(GgmlErrors, AtNormalEffortAreNoLarger) {
  constexpr uint64_t kRows = 64;
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
  for (const BlockCodec* codec : AllCodecs()) {
    if (IsFloat(codec->type)) continue;
    for (const TestVector& vector : vectors) {
      for (const auto& importance : {std::vector<float>(), LogNormalImportance(119)}) {
        const Errors errors = ErrorsOf(*codec, vector.x, importance);
        EXPECT_LE(errors.ours, errors.theirs) << NameOf(codec->type) << ", " << vector.name
                                              << (importance.empty() ? "" : ", importance");
      }
    }
  }
}

// A row made of few values, of a magnitude from 1 to 2.
struct FewValued {
  const char* name;
  std::vector<float> (*row)(uint64_t seed);
};

// Uniform in 0..1, the i-th of the stream `seed`.
double Uniform(uint64_t seed, uint64_t i) {
  return static_cast<double>(SplitMix((seed << 40) + i) >> 11) * 0x1p-53;
}

// Returns the magnitude of the i-th part of a row, with a random sign.
float SignedValue(uint64_t seed, uint64_t i) {
  const double value = 1 + Uniform(seed, 2 * i);
  return static_cast<float>(Uniform(seed, 2 * i + 1) < 0.5 ? -value : value);
}

std::vector<float> RowOf(auto value) {
  std::vector<float> x(1024);
  for (uint64_t i = 0; i < x.size(); ++i) x[i] = value(i);
  return x;
}

// Of these every single row is to be no worse.
const FewValued kPlainRows[] = {
    {"a constant", [](uint64_t s) { return std::vector<float>(1024, SignedValue(s, 0)); }},
    {"a constant per 256",
     [](uint64_t s) { return RowOf([s](uint64_t i) { return SignedValue(s, i / 256); }); }},
    {"one hot",
     [](uint64_t s) {
       std::vector<float> x(1024);
       x[SplitMix(s) % 1024] = SignedValue(s, 0);
       return x;
     }},
    {"one hot per 256",
     [](uint64_t s) {
       std::vector<float> x(1024);
       for (uint64_t b = 0; b < 4; ++b) x[256 * b + SplitMix(4 * s + b) % 256] = SignedValue(s, b);
       return x;
     }},
    {"two values of one magnitude",
     [](uint64_t s) {
       const float c = SignedValue(s, 0);
       return RowOf([=](uint64_t i) { return Uniform(s + 99, i) < 0.5 ? c : -c; });
     }},
    {"ternary", [](uint64_t s) {
       const float c = SignedValue(s, 0);
       return RowOf([=](uint64_t i) {
         const double u = Uniform(s + 99, i);
         return u < 0.3 ? c : u < 0.6 ? -c : 0;
       });
     }}};

TEST_F(GgmlErrors, OfRowsOfOneMagnitudeAreNoLarger) {
  for (const BlockCodec* codec : AllCodecs()) {
    if (IsFloat(codec->type)) continue;
    for (const FewValued& kind : kPlainRows) {
      for (uint64_t seed = 1; seed <= 40; ++seed) {
        std::vector<float> x = kind.row(seed);
        const int exponent = static_cast<int>(seed % 20) - 10;
        for (float& v : x) v = std::ldexp(v, exponent);
        for (const auto& importance : {std::vector<float>(), LogNormalImportance(119 + seed)}) {
          const Errors errors = ErrorsOf(*codec, x, importance);
          EXPECT_LE(errors.ours, errors.theirs)
              << NameOf(codec->type) << ", " << kind.name << ", seed " << seed
              << (importance.empty() ? "" : ", importance");
        }
      }
    }
  }
}

// Where the parts of a block of 256 differ, single rows may be worse by luck; many are not.
const FewValued kMixedRows[] = {
    {"a constant per 32",
     [](uint64_t s) { return RowOf([s](uint64_t i) { return SignedValue(s, i / 32); }); }},
    {"one hot per 32", [](uint64_t s) {
       std::vector<float> x(1024);
       for (uint64_t b = 0; b < 32; ++b) x[32 * b + SplitMix(32 * s + b) % 32] = SignedValue(s, b);
       return x;
     }}};

TEST_F(GgmlErrors, OfManyRowsOfFewValuesAreNoLarger) {
  for (const BlockCodec* codec : AllCodecs()) {
    if (IsFloat(codec->type)) continue;
    for (const FewValued& kind : kMixedRows) {
      std::vector<float> rows;
      for (uint64_t seed = 1; seed <= 200; ++seed) {
        const std::vector<float> row = kind.row(seed);
        rows.insert(rows.end(), row.begin(), row.end());
      }
      for (const auto& importance : {std::vector<float>(), LogNormalImportance(119)}) {
        const Errors errors = ErrorsOf(*codec, rows, importance);
        EXPECT_LE(errors.ours, errors.theirs) << NameOf(codec->type) << ", " << kind.name
                                              << (importance.empty() ? "" : ", importance");
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
