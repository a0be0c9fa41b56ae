#include "quant/plan.h"

#include <gtest/gtest.h>

#include <cmath>

#include "formats/core/error.h"

namespace quern {
namespace {

TensorInfo Tensor(std::string name, TensorRole role, DType type, Shape shape) {
  return {std::move(name), role, std::nullopt, type, shape};
}

Manifest SmallModel(DType type) {
  Manifest manifest;
  manifest.tensors = {
      Tensor("token_embd.weight", TensorRole::kTokenEmbedding, type, {512, 256}),
      Tensor("blk.0.attn_norm.weight", TensorRole::kAttnNorm, type, {256}),
      Tensor("blk.0.attn_q.weight", TensorRole::kAttnQ, type, {256, 256}),
      Tensor("blk.0.ffn_down.weight", TensorRole::kFfnDown, type, {256, 172}),
      Tensor("output.weight", TensorRole::kOutput, type, {512, 256}),
      Tensor("strange", TensorRole::kOther, DType::kI32, {3, 5}),
  };
  return manifest;
}

std::vector<DType> TypesOf(const QuantPlan& plan) {
  std::vector<DType> types;
  for (const PlanEntry& entry : plan.entries) types.push_back(entry.type);
  return types;
}

TEST(Plan, MatricesGetTheTypeAndVectorsF32) {
  const Manifest manifest = SmallModel(DType::kF16);
  for (const Preset& preset : AllPresets()) {
    if (!preset.type) continue;
    const QuantPlan plan = MakePlan(manifest, preset.name);
    EXPECT_EQ(plan.entries[1].type, DType::kF32) << preset.name;
    EXPECT_EQ(plan.entries[2].type, *preset.type) << preset.name;
    EXPECT_EQ(plan.entries[5].type, DType::kI32) << preset.name;
    EXPECT_EQ(plan.file_type, preset.file_type) << preset.name;
  }
}

TEST(Plan, SourceKeepsMatrixTypes) {
  for (const auto& [type, file_type] :
       {std::pair{DType::kF32, 0u}, {DType::kF16, 1u}, {DType::kBF16, 32u}}) {
    const QuantPlan plan = MakePlan(SmallModel(type), "source");
    EXPECT_EQ(TypesOf(plan), (std::vector{type, DType::kF32, type, type, type, DType::kI32}));
    EXPECT_EQ(plan.file_type, file_type);
  }
}

TEST(Plan, AnOutputWhoseRowsDoNotDivideIsNamedToo) {
  Manifest manifest;
  manifest.tensors = {
      Tensor("token_embd.weight", TensorRole::kTokenEmbedding, DType::kF16, {512, 288})};
  const QuantPlan plan = MakePlan(manifest, "q4_k_m");
  EXPECT_EQ(plan.entries[0].type, DType::kQ8_0);
  EXPECT_TRUE(plan.entries[0].fallback);
  EXPECT_NE(plan.entries[0].reason.find("rows of 288 do not divide into blocks of 256 for q4_k"),
            std::string::npos);
}

TEST(Plan, TwoBitsThroughoutWantAnImatrix) {
  const Manifest manifest = SmallModel(DType::kF16);
  EXPECT_EQ(MakePlan(manifest, "q2_k_s").warnings,
            std::vector<std::string>{"q2_k_s without an imatrix loses much; give --imatrix"});
  EXPECT_TRUE(MakePlan(manifest, "q2_k").warnings.empty());
}

TEST(Plan, QuantizingAgainSaysWhatItCosts) {
  const QuantPlan plan = MakePlan(SmallModel(DType::kQ8_0), "q4_k_s", {.requantize = true});
  EXPECT_EQ(plan.n_requantized, 3u);
  ASSERT_EQ(plan.warnings.size(), 1u);
  EXPECT_EQ(plan.warnings[0],
            "3 of 6 tensors are quantized a second time (q8_0 to q4_k, q6_k): the errors add up; "
            "quern diff and perplexity "
            "--reference against the original weights tell how much");
  const QuantPlan floats = MakePlan(SmallModel(DType::kQ8_0), "f16", {.requantize = true});
  EXPECT_EQ(floats.n_requantized, 0u);
  EXPECT_TRUE(floats.warnings.empty());
}

TEST(Plan, RowsThatDoNotDivideFallBackAndSaySo) {
  const QuantPlan plan = MakePlan(SmallModel(DType::kF32), "q8_0");
  EXPECT_EQ(plan.entries[3].type, DType::kF16);
  EXPECT_TRUE(plan.entries[3].fallback);
  EXPECT_NE(plan.entries[3].reason.find("172"), std::string::npos);
  EXPECT_FALSE(plan.entries[2].fallback);
}

TEST(Plan, KTypesFallBackAsInLlamaCpp) {
  Manifest manifest = SmallModel(DType::kF32);
  manifest.tensors[2].shape = {64, 288};
  for (const auto& [preset, type] : {std::pair{"q2_k", DType::kQ4_0},
                                     {"q3_k_s", DType::kQ4_0},
                                     {"q4_k_m", DType::kQ5_0},
                                     {"q5_k_m", DType::kQ5_1},
                                     {"q6_k", DType::kQ8_0},
                                     {"iq4_xs", DType::kIQ4_NL}}) {
    const PlanEntry entry = MakePlan(manifest, preset).entries[2];
    EXPECT_EQ(entry.type, type) << preset;
    EXPECT_TRUE(entry.fallback) << preset;
  }
}

// A dense Llama with the hyperparameters that rules look at, and the real shapes.
Manifest Llama(uint32_t n_layers, uint64_t d_model, uint64_t d_ff, uint32_t n_heads,
               uint32_t n_kv_heads, uint64_t vocab_size) {
  Manifest manifest;
  manifest.spec.emplace();
  manifest.spec->n_layers = n_layers;
  manifest.spec->n_heads = n_heads;
  manifest.spec->n_kv_heads = n_kv_heads;
  const uint64_t kv = d_model / n_heads * n_kv_heads;
  const auto add = [&](TensorRole role, std::optional<uint32_t> layer, Shape shape) {
    TensorInfo tensor =
        Tensor("t" + std::to_string(manifest.tensors.size()), role, DType::kF16, shape);
    tensor.layer = layer;
    manifest.tensors.push_back(tensor);
  };
  add(TensorRole::kTokenEmbedding, {}, {vocab_size, d_model});
  for (uint32_t layer = 0; layer < n_layers; ++layer) {
    add(TensorRole::kAttnNorm, layer, {d_model});
    add(TensorRole::kAttnQ, layer, {d_model, d_model});
    add(TensorRole::kAttnK, layer, {kv, d_model});
    add(TensorRole::kAttnV, layer, {kv, d_model});
    add(TensorRole::kAttnOutput, layer, {d_model, d_model});
    add(TensorRole::kFfnNorm, layer, {d_model});
    add(TensorRole::kFfnGate, layer, {d_ff, d_model});
    add(TensorRole::kFfnUp, layer, {d_ff, d_model});
    add(TensorRole::kFfnDown, layer, {d_model, d_ff});
  }
  add(TensorRole::kOutputNorm, {}, {d_model});
  add(TensorRole::kOutput, {}, {vocab_size, d_model});
  return manifest;
}

// llama-quantize's files of Llama 2 7B have these sizes; metadata and vocabulary take 0.8 MB.
TEST(Plan, SizesOfLlama2With7BAreTheKnownOnes) {
  const Manifest manifest = Llama(32, 4096, 11008, 32, 32, 32000);
  for (const auto& [preset, gigabytes] : {std::pair{"q4_0", 3.826},
                                          {"q8_0", 7.161},
                                          {"q6_k", 5.529},
                                          {"q4_k_m", 4.081},
                                          {"f16", 13.478}}) {
    const auto bytes =
        static_cast<double>(MakePlan(manifest, preset).Apply(manifest).tensor_bytes());
    EXPECT_NEAR(bytes / 1e9, gigabytes, 0.0013) << preset;
  }
}

std::vector<uint32_t> LayersWith(const Manifest& manifest, const QuantPlan& plan, TensorRole role,
                                 DType type) {
  std::vector<uint32_t> layers;
  for (size_t i = 0; i < plan.entries.size(); ++i) {
    const TensorInfo& tensor = manifest.tensors[i];
    if (tensor.role == role && plan.entries[i].type == type) layers.push_back(*tensor.layer);
  }
  return layers;
}

TEST(Plan, RulesLookAtLayersHeadsAndImportance) {
  const Manifest m7b = Llama(32, 4096, 11008, 32, 32, 32000);
  EXPECT_EQ(LayersWith(m7b, MakePlan(m7b, "Q4_K_M"), TensorRole::kAttnV, DType::kQ6_K),
            (std::vector<uint32_t>{0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31}));
  EXPECT_EQ(LayersWith(m7b, MakePlan(m7b, "q3_k_m"), TensorRole::kFfnDown, DType::kQ5_K),
            (std::vector<uint32_t>{0, 1}));
  EXPECT_EQ(LayersWith(m7b, MakePlan(m7b, "q4_k_s"), TensorRole::kAttnV, DType::kQ5_K).size(), 4u);
  EXPECT_EQ(LayersWith(m7b, MakePlan(m7b, "q2_k"), TensorRole::kAttnV, DType::kQ3_K).size(), 32u);
  const Manifest m8b = Llama(32, 4096, 14336, 32, 8, 128256);
  EXPECT_EQ(LayersWith(m8b, MakePlan(m8b, "q2_k"), TensorRole::kAttnV, DType::kQ4_K).size(), 32u);
  EXPECT_EQ(LayersWith(m8b, MakePlan(m8b, "iq4_xs"), TensorRole::kFfnDown, DType::kQ5_K).size(),
            4u);
  const Manifest m70b = Llama(80, 8192, 28672, 64, 8, 32000);
  EXPECT_EQ(LayersWith(m70b, MakePlan(m70b, "q3_k_m"), TensorRole::kAttnV, DType::kQ5_K).size(),
            80u);

  PlanOptions weighted;
  weighted.importance = std::make_shared<Importance>();
  const QuantPlan plan = MakePlan(m7b, "q4_0", weighted);
  EXPECT_EQ(LayersWith(m7b, plan, TensorRole::kFfnDown, DType::kQ4_1).size(), 4u);
  ASSERT_EQ(plan.warnings.size(), 1u);
  EXPECT_NE(plan.warnings[0].find("'t2', 't3' and 223 more"), std::string::npos)
      << plan.warnings[0];
}

TEST(Plan, TiedEmbeddingsServeAsTheOutput) {
  Manifest manifest = Llama(32, 4096, 11008, 32, 32, 32000);
  EXPECT_EQ(MakePlan(manifest, "q4_0").entries.front().type, DType::kQ4_0);
  manifest.tensors.pop_back();
  EXPECT_EQ(MakePlan(manifest, "q4_0").entries.front().type, DType::kQ6_K);
  EXPECT_EQ(MakePlan(manifest, "mxfp4").entries.front().type, DType::kQ8_0);
}

TEST(Plan, OverridesComeInOrder) {
  const Manifest manifest = SmallModel(DType::kF16);
  EXPECT_EQ(MakePlan(manifest, "q4_0").entries[4].type, DType::kQ6_K);
  EXPECT_EQ(MakePlan(manifest, "q4_0", {.pure = true}).entries[4].type, DType::kQ4_0);
  EXPECT_EQ(MakePlan(manifest, "q4_0", {.keep_output = true}).entries[4].type, DType::kF16);
  PlanOptions options;
  options.overrides = {{TensorRole::kAttnQ, "", DType::kQ8_0, "first"},
                       {{}, "blk.?.attn_*", DType::kQ5_0, "second"},
                       {{}, "blk*", DType::kQ4_1, "third"},
                       {TensorRole::kFfnGate, "", DType::kQ4_1, "fourth"},
                       {{}, "lm_head*", DType::kQ4_1, "fifth"}};
  const QuantPlan first = MakePlan(manifest, "q4_0", options);
  EXPECT_EQ(first.entries[2], (PlanEntry{DType::kQ8_0, "first"}));
  EXPECT_EQ(first.entries[1].type, DType::kF32) << "vectors stay";
  ASSERT_EQ(first.warnings.size(), 1u);
  EXPECT_EQ(first.warnings[0], "no matrix of the model matches: 'fourth', 'fifth'");
  std::swap(options.overrides[0], options.overrides[1]);
  EXPECT_EQ(MakePlan(manifest, "q4_0", options).entries[2], (PlanEntry{DType::kQ5_0, "second"}));
  EXPECT_EQ(FindRole("attn_q"), TensorRole::kAttnQ);
  EXPECT_FALSE(FindRole("attn"));
}

TEST(Plan, ImportanceThatDoesNotFitIsRefused) {
  const Manifest manifest = SmallModel(DType::kF16);
  const auto error_id = [&](std::vector<float> weights) -> std::string {
    PlanOptions options;
    options.importance = std::make_shared<Importance>(
        Importance{"dir/m.imatrix", {{"blk.0.attn_q.weight", std::move(weights)}}});
    try {
      (void)MakePlan(manifest, "q4_0", options);
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("blk.0.attn_q.weight"), std::string::npos);
      EXPECT_EQ(error.file(), "dir/m.imatrix");
      return error.id();
    }
    return "";
  };
  EXPECT_EQ(error_id(std::vector<float>(255, 1.0f)), "imatrix.width");
  EXPECT_EQ(error_id(std::vector<float>(256, -1.0f)), "imatrix.non-finite");
  EXPECT_EQ(error_id(std::vector<float>(256, NAN)), "imatrix.non-finite");
  EXPECT_EQ(error_id(std::vector<float>(256, 0.0f)), "");
}

TEST(Plan, EntriesAreCheckedWhateverTheTensorBecomes) {
  const Manifest manifest = SmallModel(DType::kF16);  // rows of ffn_down do not divide: f16
  for (const char* preset : {"q4_0", "f16", "source"}) {
    PlanOptions options;
    options.importance = std::make_shared<Importance>(
        Importance{"m.imatrix", {{"blk.0.ffn_down.weight", std::vector<float>(8, 1.0f)}}});
    EXPECT_THROW((void)MakePlan(manifest, preset, options), Error) << preset;
  }
}

TEST(Plan, TellsWhatIsMissingZeroOrStrangeInTheImatrix) {
  const Manifest manifest = SmallModel(DType::kF16);
  PlanOptions options;
  options.importance = std::make_shared<Importance>(
      Importance{"m.imatrix",
                 {{"blk.0.attn_q.weight", std::vector<float>(256, 0.0f)},
                  {"output.weight", std::vector<float>(256, 1.0f)},
                  {"blk.7.attn_q.weight", std::vector<float>(3, 1.0f)}}});
  EXPECT_EQ(MakePlan(manifest, "q4_0", options).warnings,
            (std::vector<std::string>{
                "not in the imatrix, so quantized unweighted: 'token_embd.weight'",
                "only zeros in the imatrix, so quantized unweighted: 'blk.0.attn_q.weight'",
                "in the imatrix but not in the model: 'blk.7.attn_q.weight'"}));
}

TEST(Plan, NamesIgnoreCaseAndHaveAliases) {
  EXPECT_EQ(MakePlan(SmallModel(DType::kF32), "Q4_K").preset, "q4_k_m");
}

TEST(Plan, RefusesUnknownPresets) {
  try {
    (void)MakePlan(SmallModel(DType::kF32), "q9_9");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "quant.preset");
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
  }
}

TEST(Plan, RequantizingNeedsTheOption) {
  Manifest manifest = SmallModel(DType::kF16);
  manifest.tensors[2].dtype = DType::kQ8_0;
  try {
    (void)MakePlan(manifest, "q4_0");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "quant.requantize");
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_NE(std::string(error.what()).find("blk.0.attn_q.weight"), std::string::npos);
    EXPECT_NE(error.hint().find("--requantize"), std::string::npos);
  }
  const QuantPlan plan = MakePlan(manifest, "q4_0", {.requantize = true});
  EXPECT_EQ(plan.entries[2].type, DType::kQ4_0);
  // What it costs is said.
  ASSERT_EQ(plan.warnings.size(), 1u);
  EXPECT_NE(plan.warnings[0].find("quantized a second time (q8_0"), std::string::npos);
  EXPECT_TRUE(MakePlan(manifest, "f32", {.requantize = true}).warnings.empty());
  // Keeping the type, or going back to floats, quantizes nothing.
  EXPECT_EQ(MakePlan(manifest, "q8_0").entries[2].type, DType::kQ8_0);
  EXPECT_EQ(MakePlan(manifest, "f32").entries[2].type, DType::kF32);
}

TEST(Plan, RefusesTypesWithoutACodec) {
  Manifest manifest = SmallModel(DType::kF16);
  manifest.tensors[2] = Tensor("blk.0.attn_q.weight", TensorRole::kAttnQ, DType::kIQ1_S, {64, 256});
  EXPECT_EQ(MakePlan(manifest, "source").entries[2].type, DType::kIQ1_S);
  try {
    (void)MakePlan(manifest, "q8_0", {.requantize = true});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "quant.no-codec");
  }
}

TEST(Plan, ApplyChangesTypesOnly) {
  const Manifest manifest = SmallModel(DType::kF16);
  const QuantPlan plan = MakePlan(manifest, "q8_0");
  Manifest out = plan.Apply(manifest);
  for (size_t i = 0; i < out.tensors.size(); ++i) {
    EXPECT_EQ(out.tensors[i].dtype, plan.entries[i].type);
    out.tensors[i].dtype = manifest.tensors[i].dtype;
  }
  out.file_type = manifest.file_type;
  EXPECT_EQ(out, manifest);
}

TEST(Plan, ItsMetadataReplacesOlderEntries) {
  Manifest manifest = SmallModel(DType::kF16);
  manifest.metadata = {{"a", MetadataValue::U32(1)}, {"b", MetadataValue::U32(2)}};
  QuantPlan plan = MakePlan(manifest, "q8_0");
  plan.metadata = {{"a", MetadataValue::Text("new")}, {"c", MetadataValue::U32(3)}};
  EXPECT_EQ(plan.Apply(manifest).metadata,
            (std::vector<MetadataEntry>{{"b", MetadataValue::U32(2)},
                                        {"a", MetadataValue::Text("new")},
                                        {"c", MetadataValue::U32(3)}}));
}

}  // namespace
}  // namespace quern
