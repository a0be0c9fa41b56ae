#include "converters/hf_config.h"

#include "tests/converters/test_support.h"

namespace quern {
namespace {

using testing::Caught;
using testing::ExpectError;

HfConfig Parse(const std::string& members) {
  return ParseHfConfig(R"({"model_type": "llama")" + members + "}", "config.json");
}

TEST(HfConfig, AbsentKeysHaveTheDefaultsOfTransformers) {
  const HfConfig config = Parse("");
  EXPECT_EQ(config.hidden_size, 4096u);
  EXPECT_EQ(config.intermediate_size, 11008u);
  EXPECT_EQ(config.n_layers, 32u);
  EXPECT_EQ(config.n_heads, 32u);
  EXPECT_EQ(config.n_kv_heads, 32u);
  EXPECT_EQ(config.head_dim, 128u);
  EXPECT_EQ(config.vocab_size, 32000u);
  EXPECT_EQ(config.context_length, 2048u);
  EXPECT_EQ(config.norm_eps, 1e-6);
  EXPECT_EQ(config.rope_theta, 10000.0);
  EXPECT_FALSE(config.tied_embeddings);
  EXPECT_FALSE(config.float8.has_value());
}

TEST(HfConfig, HeadsOfASizeOfTheirOwn) {
  const HfConfig config =
      Parse(R"(, "hidden_size": 3072, "num_attention_heads": 24, "head_dim": 64)");
  EXPECT_EQ(config.head_dim, 64u);
  EXPECT_EQ(Parse(R"(, "hidden_size": 3072, "num_attention_heads": 24, "head_dim": null)").head_dim,
            128u);
}

TEST(HfConfig, PositionScalings) {
  EXPECT_EQ(Parse(R"(, "rope_scaling": {"type": "linear", "factor": 4.0})").rope_linear_factor,
            4.0);
  EXPECT_FALSE(Parse(R"(, "rope_scaling": {"rope_type": "default"})").rope_linear_factor);
  const HfConfig scaled = Parse(
      R"(, "rope_scaling": {"rope_type": "llama3", "factor": 32, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 4096})");
  ASSERT_TRUE(scaled.rope_frequency_scaling.has_value());
  EXPECT_EQ(scaled.rope_frequency_scaling->factor, 32);
  EXPECT_EQ(scaled.rope_frequency_scaling->original_context, 4096);
  EXPECT_EQ(
      Parse(R"(, "rope_parameters": {"rope_type": "default", "rope_theta": 500000})").rope_theta,
      500000.0);
}

struct Refusal {
  const char* name;
  const char* members;
  ErrorCode code;
  const char* id;
  std::vector<std::string> words;
};
void PrintTo(const Refusal& c, std::ostream* out) { *out << c.name; }
class HfRefusals : public ::testing::TestWithParam<Refusal> {};

TEST_P(HfRefusals, NameKeyAndValue) {
  const Refusal& c = GetParam();
  ExpectError(Caught([&] { ParseHfConfig(c.members, "config.json"); }), c.code, c.id, c.words);
}

INSTANTIATE_TEST_SUITE_P(
    All, HfRefusals,
    ::testing::Values(
        Refusal{"Mistral",
                R"({"model_type": "mistral"})",
                ErrorCode::kUnsupported,
                "hf.architecture",
                {"mistral", "model_type"}},
        Refusal{"Classifier",
                R"({"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]})",
                ErrorCode::kUnsupported,
                "hf.architecture",
                {"LlamaForSequenceClassification"}},
        Refusal{"Nothing", "{}", ErrorCode::kData, "config.value", {"model_type"}},
        Refusal{"NoObject", "[]", ErrorCode::kData, "config.value", {"config.json"}},
        Refusal{"Bias",
                R"({"model_type": "llama", "attention_bias": true})",
                ErrorCode::kUnsupported,
                "hf.feature",
                {"attention_bias"}},
        Refusal{"MlpBias",
                R"({"model_type": "llama", "mlp_bias": true})",
                ErrorCode::kUnsupported,
                "hf.feature",
                {"mlp_bias"}},
        Refusal{"Window",
                R"({"model_type": "llama", "sliding_window": 4096})",
                ErrorCode::kUnsupported,
                "hf.feature",
                {"sliding_window", "4096"}},
        Refusal{"Activation",
                R"({"model_type": "llama", "hidden_act": "gelu"})",
                ErrorCode::kUnsupported,
                "hf.feature",
                {"hidden_act", "gelu"}},
        Refusal{"Yarn",
                R"({"model_type": "llama", "rope_scaling": {"type": "yarn", "factor": 2}})",
                ErrorCode::kUnsupported,
                "hf.feature",
                {"yarn", "rope_scaling"}},
        Refusal{"Dynamic",
                R"({"model_type": "llama", "rope_scaling": {"type": "dynamic", "factor": 2}})",
                ErrorCode::kUnsupported,
                "hf.feature",
                {"dynamic"}},
        Refusal{"LinearWithoutFactor",
                R"({"model_type": "llama", "rope_scaling": {"type": "linear"}})",
                ErrorCode::kData,
                "config.value",
                {"factor"}},
        Refusal{"Gptq",
                R"({"model_type": "llama", "quantization_config": {"quant_method": "gptq"}})",
                ErrorCode::kUnsupported,
                "hf.quantization",
                {"gptq", "unquantized"}},
        Refusal{"Negative",
                R"({"model_type": "llama", "num_attention_heads": -8})",
                ErrorCode::kData,
                "config.value",
                {"num_attention_heads", "-8"}},
        Refusal{"Zero",
                R"({"model_type": "llama", "num_hidden_layers": 0})",
                ErrorCode::kData,
                "config.value",
                {"num_hidden_layers", "0"}},
        Refusal{"Heads",
                R"({"model_type": "llama", "num_attention_heads": 33})",
                ErrorCode::kData,
                "config.value",
                {"33", "4096"}},
        Refusal{"FactorWithoutType",
                R"({"model_type": "llama", "rope_scaling": {"factor": 4.0}})",
                ErrorCode::kData,
                "config.value",
                {"rope_scaling.factor", "4.0", "rope_type"}},
        Refusal{"TypeNull",
                R"({"model_type": "llama", "rope_scaling": {"type": null, "factor": 4}})",
                ErrorCode::kData,
                "config.value",
                {"rope_scaling.factor", "4"}},
        Refusal{"RopeTypeNull",
                R"({"model_type": "llama", "rope_parameters": {"rope_type": null, "low_freq_factor": 1}})",
                ErrorCode::kData,
                "config.value",
                {"rope_parameters.low_freq_factor"}},
        Refusal{"TwoScalings",
                R"({"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 4}, "rope_parameters": {"rope_type": "llama3", "factor": 8}})",
                ErrorCode::kData,
                "config.value",
                {"rope_parameters"}},
        Refusal{"PartialInside",
                R"({"model_type": "llama", "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}})",
                ErrorCode::kUnsupported,
                "hf.feature",
                {"partial_rotary_factor", "0.5"}},
        Refusal{"Partial",
                R"({"model_type": "llama", "partial_rotary_factor": 0.5})",
                ErrorCode::kUnsupported,
                "hf.feature",
                {"partial_rotary_factor", "0.5"}},
        Refusal{"OddHeadDim",
                R"({"model_type": "llama", "head_dim": 65})",
                ErrorCode::kData,
                "config.value",
                {"key 'head_dim'", "65", "even"}},
        Refusal{"OddHeads",
                R"({"model_type": "llama", "hidden_size": 99, "num_attention_heads": 33, "num_key_value_heads": 33})",
                ErrorCode::kData,
                "config.value",
                {"key 'num_attention_heads'", "heads of even size, not 3"}},
        Refusal{"Fraction",
                R"({"model_type": "llama", "hidden_size": 4096.0})",
                ErrorCode::kData,
                "config.value",
                {"hidden_size", "found 4096.0", "an integer"}},
        Refusal{"ManyLayers",
                R"({"model_type": "llama", "num_hidden_layers": 65535})",
                ErrorCode::kData,
                "config.value",
                {"num_hidden_layers", "65535", "4096"}},
        Refusal{"Blocks",
                R"({"model_type": "llama", "quantization_config": {"quant_method": "fp8", "weight_block_size": [128]}})",
                ErrorCode::kData,
                "config.value",
                {"weight_block_size", "two positive integers"}},
        Refusal{"TwoBlockSizes",
                R"({"model_type": "llama", "quantization_config": {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"a": {"weights": {"strategy": "block", "block_structure": [128, 128]}}, "b": {"weights": {"strategy": "block", "block_structure": [64, 128]}}}}})",
                ErrorCode::kData,
                "config.value",
                {"block_structure", "one for all weights"}},
        Refusal{"Groups",
                R"({"model_type": "llama", "num_key_value_heads": 5})",
                ErrorCode::kData,
                "config.value",
                {"num_key_value_heads", "5"}}),
    [](const auto& test) { return std::string(test.param.name); });

// What is no scaling may be said in many ways.
TEST(HfConfig, RopeObjectsWithoutScaling) {
  for (const char* rope :
       {R"({"rope_theta": 7})", R"({"rope_theta": 7, "rope_type": "default"})",
        R"({"rope_theta": 7, "type": null, "factor": null, "partial_rotary_factor": 1.0})",
        R"({"rope_theta": 7, "rope_type": "default", "factor": 8})"}) {
    const HfConfig config = ParseHfConfig(
        R"({"model_type": "llama", "rope_parameters": )" + std::string(rope) + "}", "config.json");
    EXPECT_EQ(config.rope_theta, 7) << rope;
    EXPECT_FALSE(config.rope_linear_factor || config.rope_frequency_scaling) << rope;
  }
}

TEST(HfConfig, BlocksOfCompressedTensors) {
  const HfConfig config = ParseHfConfig(
      R"({"model_type": "llama", "quantization_config": {
            "quant_method": "compressed-tensors", "format": "float-quantized",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
              "num_bits": 8, "type": "float", "strategy": "block",
              "block_structure": [128, 64]}}}}})",
      "config.json");
  ASSERT_TRUE(config.float8.has_value());
  EXPECT_EQ(config.float8->block_rows, 128u);
  EXPECT_EQ(config.float8->block_cols, 64u);
}

TEST(HfTokenIds, OfListsAllEndsAndTheFirstOfOthers) {
  const HfTokenIds ids = ParseHfTokenIds(
      R"({"bos_token_id": 128000, "eos_token_id": [128001, 128008], "pad_token_id": -1})",
      "g.json");
  EXPECT_EQ(ids.bos, 128000u);
  EXPECT_EQ(ids.eos, (std::vector<uint32_t>{128001, 128008}));
  EXPECT_FALSE(ids.pad.has_value());
  EXPECT_FALSE(ids.is_copy);
  EXPECT_TRUE(ParseHfTokenIds(R"({"_from_model_config": true})", "g.json").is_copy);
  ExpectError(Caught([&] { ParseHfTokenIds(R"({"bos_token_id": "<s>"})", "g.json"); }),
              ErrorCode::kData, "config.value", {"bos_token_id"});
}

}  // namespace
}  // namespace quern
