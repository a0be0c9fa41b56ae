#include "verify/per_tensor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "formats/core/error.h"
#include "tests/verify/synthetic_model.h"
#include "verify/divergence.h"

namespace quern {
namespace {

// Each effect beside a whole run of the reference with that tensor put in by hand.
void CheckEffects(bool tied) {
  const SyntheticSpec spec = {.n_layers = 3, .tied_embeddings = tied};
  SyntheticSpec quantized = spec;
  quantized.matrix_type = DType::kQ8_0;
  const SyntheticStore base(spec);
  SyntheticStore model(quantized);
  PerplexityOptions options;
  options.context = 50;
  const std::string text = SyntheticText(500);
  const PerTensorReport report = PerTensor(model, base, text, options).Measure();
  const std::vector<TensorEffect>& effects = report.effects;
  EXPECT_EQ(report.windows, 10u);

  // All matrices; the norms are the same.
  ASSERT_EQ(effects.size(), 3u * 7u + (tied ? 1u : 2u));
  const std::vector<TensorInfo>& tensors = base.manifest().tensors;
  double last = 1e9;
  for (const TensorEffect& effect : effects) {
    EXPECT_LE(effect.mean_kld.value, last) << effect.name;
    last = effect.mean_kld.value;
    EXPECT_GT(effect.mean_kld.value, 0) << effect.name;
    EXPECT_EQ(effect.reference_type, DType::kF32);
    EXPECT_EQ(effect.model_type, DType::kQ8_0);
    const auto at = static_cast<size_t>(std::ranges::find(tensors, effect.name, &TensorInfo::name) -
                                        tensors.begin());
    ASSERT_LT(at, tensors.size());
    SyntheticStore swapped(spec);
    swapped.mutable_manifest().tensors[at].dtype = DType::kQ8_0;
    swapped.bytes(at) = model.bytes(at);
    EXPECT_EQ(effect.model_bytes, model.bytes(at).size());
    const Report alone = PerplexityAgainst(swapped, base, text, options);
    EXPECT_NEAR(effect.mean_kld.value, alone.divergence->kld.mean.value, 1e-12) << effect.name;
    EXPECT_NEAR(effect.mean_kld.standard_error, alone.divergence->kld.mean.standard_error, 1e-12);
    EXPECT_NEAR(effect.ln_perplexity_ratio.value, alone.divergence->ln_perplexity_ratio.value,
                1e-12);
  }
  // In groups of a few windows the same.
  options.memory_bytes = 1 << 20;
  const std::vector<TensorEffect> groups = PerTensor(model, base, text, options).Measure().effects;
  EXPECT_EQ(groups[0].name, effects[0].name);
  EXPECT_EQ(groups[0].mean_kld.value, effects[0].mean_kld.value);
}

TEST(PerTensor, EffectsAreThoseOfWholeRuns) { CheckEffects(false); }
TEST(PerTensor, TiedEmbeddingsActTwice) { CheckEffects(true); }

// Where the swaps of a stage leave no room for whole windows, in parts, and from a file: the same.
TEST(PerTensor, LittleMemoryChangesNoBit) {
  const SyntheticStore base({.n_layers = 1});
  const SyntheticStore model({.n_layers = 1, .matrix_type = DType::kQ8_0});
  PerplexityOptions options;
  options.context = 1200;
  options.protocol = Protocol::kPapers;
  const std::string text = SyntheticText(2400);
  const PerTensorReport whole = PerTensor(model, base, text, options).Measure();
  ASSERT_EQ(whole.windows, 2u);
  int n_runs = 0;
  for (options.memory_bytes = 14 << 20;; options.memory_bytes = options.memory_bytes * 6 / 7) {
    std::optional<PerTensor> run;
    try {
      run.emplace(model, base, text, options);
    } catch (const Error& error) {  // Before anything is evaluated.
      EXPECT_EQ(error.id(), "memory.budget");
      break;
    }
    ++n_runs;
    const PerTensorReport report = run->Measure();
    ASSERT_EQ(report.effects.size(), whole.effects.size());
    for (size_t i = 0; i < report.effects.size(); ++i) {
      EXPECT_EQ(report.effects[i].name, whole.effects[i].name);
      EXPECT_EQ(report.effects[i].mean_kld.value, whole.effects[i].mean_kld.value);
    }
  }
  EXPECT_GT(n_runs, 3);
}

TEST(PerTensor, EqualModelsHaveNothingToShow) {
  const SyntheticStore a({}), b({});
  PerplexityOptions options;
  options.context = 50;
  const PerTensorReport report = PerTensor(a, b, SyntheticText(500), options).Measure();
  EXPECT_TRUE(report.effects.empty());
  EXPECT_EQ(report.windows, 10u);
}

}  // namespace
}  // namespace quern
