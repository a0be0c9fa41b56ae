#include "verify/per_tensor.h"

#include <gtest/gtest.h>

#include <algorithm>

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
  const std::vector<TensorEffect> effects = MeasurePerTensor(model, base, text, options);

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
  const std::vector<TensorEffect> groups = MeasurePerTensor(model, base, text, options);
  EXPECT_EQ(groups[0].name, effects[0].name);
  EXPECT_EQ(groups[0].mean_kld.value, effects[0].mean_kld.value);
}

TEST(PerTensor, EffectsAreThoseOfWholeRuns) { CheckEffects(false); }
TEST(PerTensor, TiedEmbeddingsActTwice) { CheckEffects(true); }

TEST(PerTensor, EqualModelsHaveNothingToShow) {
  const SyntheticStore a({}), b({});
  PerplexityOptions options;
  options.context = 50;
  try {
    MeasurePerTensor(a, b, SyntheticText(500), options);
    FAIL() << "effects without a difference";
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "per-tensor.none");
  }
}

}  // namespace
}  // namespace quern
