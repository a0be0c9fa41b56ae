#include "converters/params_json.h"

#include "formats/core/file.h"
#include "tests/converters/test_support.h"

namespace quern {
namespace {

using testing::Caught;
using testing::ExpectError;

// The published sizes; the feed-forward ones are the rows of w1 in the releases.
struct Release {
  const char* file;
  uint32_t dim, n_layers, n_heads, n_kv_heads, d_ff, context;
  double norm_eps, rope_theta;
};

void PrintTo(const Release& release, std::ostream* out) { *out << release.file; }

class RealParams : public ::testing::TestWithParam<Release> {};

TEST_P(RealParams, HaveTheReleasesSizes) {
  QUERN_REQUIRE_ASSETS();
  const Release& want = GetParam();
  const std::string path = testing::AssetsFolder() + "/params/" + want.file;
  const MetaParams params = ParseMetaParams(ReadWholeFile(path, 4096), path);
  EXPECT_EQ(params.dim, want.dim);
  EXPECT_EQ(params.n_layers, want.n_layers);
  EXPECT_EQ(params.n_heads, want.n_heads);
  EXPECT_EQ(params.n_kv_heads.value_or(params.n_heads), want.n_kv_heads);
  EXPECT_EQ(FeedForwardRows(params), want.d_ff);
  EXPECT_EQ(params.norm_eps, want.norm_eps);
  const bool llama3 = std::string(want.file).starts_with("llama-3");
  EXPECT_EQ(params.vocab_size.has_value(), llama3);
  EXPECT_EQ(RopeThetaOf(params, {llama3}), want.rope_theta);
  EXPECT_EQ(ContextLengthOf(params, {llama3}, std::nullopt).length, want.context);
}

INSTANTIATE_TEST_SUITE_P(
    Assets, RealParams,
    ::testing::Values(
        Release{"llama-1/7B.params.json", 4096, 32, 32, 32, 11008, 2048, 1e-6, 1e4},
        Release{"llama-1/13B.params.json", 5120, 40, 40, 40, 13824, 2048, 1e-6, 1e4},
        Release{"llama-1/30B.params.json", 6656, 60, 52, 52, 17920, 2048, 1e-6, 1e4},
        Release{"llama-1/65B.params.json", 8192, 80, 64, 64, 22016, 2048, 1e-5, 1e4},
        Release{"llama-2/7B.params.json", 4096, 32, 32, 32, 11008, 4096, 1e-5, 1e4},
        Release{"llama-2/13B.params.json", 5120, 40, 40, 40, 13824, 4096, 1e-5, 1e4},
        Release{"llama-2/70B.params.json", 8192, 80, 64, 8, 28672, 4096, 1e-5, 1e4},
        Release{"codellama/34B.params.json", 8192, 48, 64, 8, 22016, 16384, 1e-5, 1e6},
        Release{"llama-3/8B.params.json", 4096, 32, 32, 8, 14336, 8192, 1e-5, 5e5},
        Release{"llama-3/70B.params.json", 8192, 80, 64, 8, 28672, 8192, 1e-5, 5e5},
        Release{"llama-3/70B-Instruct.params.json", 8192, 80, 64, 8, 28672, 8192, 1e-5, 5e5},
        Release{"llama-3.1/8B.params.json", 4096, 32, 32, 8, 14336, 131072, 1e-5, 5e5}),
    [](const auto& row) {
      const std::string name = row.param.file;
      std::string out;
      for (const char c : name.substr(0, name.find(".params"))) {
        out += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
      }
      return out;
    });

// The releases whose params.json is not among the assets, from Meta's list of models.
TEST(FeedForwardRows, OfTheOtherReleases) {
  const auto rows = [](uint32_t dim, double multiplier, uint32_t multiple_of) {
    MetaParams params;
    params.dim = dim;
    params.ffn_dim_multiplier = multiplier;
    params.multiple_of = multiple_of;
    return FeedForwardRows(params);
  };
  EXPECT_EQ(rows(16384, 1.2, 4096), 53248u);  // Llama 3.1 405B
  EXPECT_EQ(rows(2048, 1.5, 256), 8192u);     // Llama 3.2 1B
  EXPECT_EQ(rows(3072, 1.0, 256), 8192u);     // Llama 3.2 3B
}

MetaParams Parse(const std::string& text) { return ParseMetaParams(text, "params.json"); }

TEST(ParseMetaParams, TakesNestedAndIgnoresUnknownKeys) {
  const MetaParams params = Parse(
      R"({"model": {"dim": 64, "n_layers": 5, "n_heads": 8, "n_kv_heads": null, "colour": "red",
          "vocab_size": -1, "max_seq_len": 512, "norm_eps": 1e-6}, "dim": 9})");
  EXPECT_EQ(params.dim, 64u);
  EXPECT_FALSE(params.n_kv_heads);
  EXPECT_FALSE(params.vocab_size);
  EXPECT_FALSE(params.use_scaled_rope);
  EXPECT_EQ(params.max_seq_len, 512u);
  EXPECT_EQ(params.norm_eps, 1e-6);
  const ContextLength context = ContextLengthOf(params, {}, std::nullopt);
  EXPECT_EQ(context.length, 512u);
  EXPECT_EQ(context.rule, "");
  EXPECT_EQ(ContextLengthOf(params, {}, 33).rule, "");
  EXPECT_EQ(ContextLengthOf(params, {}, 33).length, 33u);
}

TEST(ParseMetaParams, NamesKeyAndValue) {
  struct Case {
    const char *text, *key, *value;
  };
  for (const Case& c : std::initializer_list<Case>{
           {R"({"n_layers": 1, "n_heads": 8})", "dim", ""},
           {R"({"dim": 0, "n_layers": 1, "n_heads": 8})", "dim", "0"},
           {R"({"dim": -64, "n_layers": 1, "n_heads": 8})", "dim", "-64"},
           {R"({"dim": 64.5, "n_layers": 1, "n_heads": 8})", "dim", "64.5"},
           {R"({"dim": "64", "n_layers": 1, "n_heads": 8})", "dim", "64"},
           {R"({"dim": 64, "n_layers": 99999999, "n_heads": 8})", "n_layers", "99999999"},
           {R"({"dim": 64, "n_layers": 1, "n_heads": 7})", "n_heads", "7"},
           {R"({"dim": 24, "n_layers": 1, "n_heads": 8})", "n_heads", "8"},
           {R"({"dim": 64, "n_layers": 1, "n_heads": 8, "n_kv_heads": 3})", "n_kv_heads", "3"},
           {R"({"dim": 64, "n_layers": 1, "n_heads": 8, "vocab_size": -2})", "vocab_size", "-2"},
           {R"({"dim": 64, "n_layers": 1, "n_heads": 8, "norm_eps": 0})", "norm_eps", "0"},
           {R"({"dim": 64, "n_layers": 1, "n_heads": 8, "norm_eps": -1e-5})", "norm_eps", "-1e-05"},
           {R"({"dim": 64, "n_layers": 1, "n_heads": 8, "rope_theta": 1e99})", "rope_theta", "1e+99"},
           {R"({"dim": 64, "n_layers": 1, "n_heads": 8, "multiple_of": 0})", "multiple_of", "0"},
           {R"({"dim": 64, "n_layers": 1, "n_heads": 8, "ffn_dim_multiplier": 1e9})",
            "ffn_dim_multiplier", ""},
           {R"({"dim": 64, "n_layers": 1, "n_heads": 8, "use_scaled_rope": 1})", "use_scaled_rope",
            "1"},
           {R"({"dim": 64, "n_layers": 1, "n_heads": 8, "max_seq_len": 0})", "max_seq_len", "0"},
           {R"([1])", "object", "array"}}) {
    SCOPED_TRACE(c.text);
    ExpectError(Caught([&] { Parse(c.text); }), ErrorCode::kData, "config.value",
                {"params.json", c.key, c.value});
  }
}

TEST(ParseMetaParams, RefusesOtherReleasesByName) {
  const std::string begin = R"({"dim": 64, "n_layers": 1, "n_heads": 8, )";
  ExpectError(Caught([&] { Parse(begin + R"("vision_chunk_size": 448})"); }),
              ErrorCode::kUnsupported, "meta.release", {"vision", "vision_chunk_size"});
  ExpectError(Caught([&] { Parse(begin + R"("moe": {"num_experts": 8}})"); }),
              ErrorCode::kUnsupported, "meta.release", {"mixture of experts", "moe"});
  ExpectError(Caught([&] { Parse(begin + R"("quantization_args": {"group_size": 256}})"); }),
              ErrorCode::kUnsupported, "meta.release", {"int4", "quantization_args", "bf16"});
  ExpectError(Caught([&] { Parse(begin + R"("lora_args": {"rank": 16}})"); }),
              ErrorCode::kUnsupported, "meta.release", {"LoRA", "lora_args"});
  EXPECT_EQ(Parse(begin + R"("vision_chunk_size": -1, "moe": null})").dim, 64u);
}

TEST(RopeScalingFactor, Is32ForLlama32OneAndThreeBillionOnly) {
  const auto factor = [](uint32_t dim, uint32_t n_layers) {
    MetaParams params;
    params.dim = dim;
    params.n_layers = n_layers;
    return RopeScalingFactor(params);
  };
  EXPECT_EQ(factor(2048, 16), 32.0);
  EXPECT_EQ(factor(3072, 28), 32.0);
  EXPECT_EQ(factor(4096, 32), 8.0);
  EXPECT_EQ(factor(8192, 80), 8.0);
  EXPECT_EQ(factor(16384, 126), 8.0);
}

TEST(RopeThetaOf, DefaultsByVocabulary) {
  MetaParams params;
  EXPECT_EQ(RopeThetaOf(params, {false}), 10000.0);
  EXPECT_EQ(RopeThetaOf(params, {true}), 500000.0);
  params.rope_theta = 7.0;
  EXPECT_EQ(RopeThetaOf(params, {true}), 7.0);
}

TEST(ContextLengthOf, NamesItsRule) {
  MetaParams params;
  params.dim = 64;
  const auto source = [&](bool tiktoken) {
    return ContextLengthOf(params, {tiktoken}, std::nullopt).rule;
  };
  EXPECT_EQ(source(false), "rule: llama 2 (norm_eps 1e-5)");
  params.norm_eps = 1e-6;
  EXPECT_EQ(source(false), "rule: llama 1");
  // The first release of Llama-2-7b-chat has LLaMA 1's norm_eps and Llama 2's type.
  const ContextLength doubtful = ContextLengthOf(params, {false, true}, std::nullopt);
  EXPECT_EQ(doubtful.rule, "rule: llama 2 (bfloat16 weights)");
  EXPECT_EQ(doubtful.length, 4096u);
  EXPECT_TRUE(doubtful.is_doubtful);
  params.rope_theta = 1e6;
  EXPECT_EQ(source(false), "rule: code llama (rope_theta 1e6)");
  EXPECT_EQ(source(true), "rule: llama 3 (tiktoken)");
  params.use_scaled_rope = true;
  EXPECT_EQ(source(true), "rule: llama 3.1 (tiktoken, use_scaled_rope)");
}

}  // namespace
}  // namespace quern
