#include "quant/plan.h"

#include <gtest/gtest.h>

#include "formats/core/error.h"

namespace quern {
namespace {

TensorInfo Tensor(std::string name, TensorRole role, DType type, Shape shape) {
  return {std::move(name), role, std::nullopt, type, shape};
}

Manifest SmallModel(DType type) {
  Manifest manifest;
  manifest.tensors = {
      Tensor("token_embd.weight", TensorRole::kTokenEmbedding, type, {512, 64}),
      Tensor("blk.0.attn_norm.weight", TensorRole::kAttnNorm, type, {64}),
      Tensor("blk.0.attn_q.weight", TensorRole::kAttnQ, type, {64, 64}),
      Tensor("blk.0.ffn_down.weight", TensorRole::kFfnDown, type, {64, 172}),
      Tensor("output.weight", TensorRole::kOutput, type, {512, 64}),
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

TEST(Plan, RowsThatDoNotDivideFallBackAndSaySo) {
  const QuantPlan plan = MakePlan(SmallModel(DType::kF32), "q8_0");
  EXPECT_EQ(plan.entries[3].type, DType::kF16);
  EXPECT_TRUE(plan.entries[3].fallback);
  EXPECT_NE(plan.entries[3].reason.find("172"), std::string::npos);
  EXPECT_FALSE(plan.entries[2].fallback);
}

TEST(Plan, NamesIgnoreCase) { EXPECT_EQ(MakePlan(SmallModel(DType::kF32), "Q8_0").preset, "q8_0"); }

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
  EXPECT_EQ(MakePlan(manifest, "q4_0", {.requantize = true}).entries[2].type, DType::kQ4_0);
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

}  // namespace
}  // namespace quern
