#include "verify/divergence.h"

#include <gtest/gtest.h>

#include <cmath>

#include "formats/core/error.h"
#include "tests/verify/synthetic_model.h"
#include "verify/windows.h"

namespace quern {
namespace {

// Log-probabilities of every scored position, by the model's own logits, in double.
// Shape: [predictions, 259]; also the first most likely token of each.
struct Distributions {
  std::vector<std::vector<double>> log_p;
  std::vector<size_t> top;
};

Distributions AllLogProbabilities(const SyntheticStore& store, const TextWindows& windows) {
  const auto model = OpenLanguageModel(store, {});
  const uint64_t rows = windows.n_windows * windows.n_scored;
  std::vector<float> hidden(rows * store.manifest().spec->d_model), logits(rows * 259);
  model->Forward({.tokens = windows.inputs,
                  .n_windows = windows.n_windows,
                  .context = windows.context,
                  .scored_begin = windows.scored_begin,
                  .n_scored = windows.n_scored},
                 hidden);
  model->Logits(hidden, 0, 259, logits);
  Distributions all;
  for (uint64_t row = 0; row < rows; ++row) {
    const float* l = logits.data() + row * 259;
    double total = 0;
    size_t top = 0;
    for (size_t i = 0; i < 259; ++i) {
      total += std::exp(double{l[i]});
      if (l[i] > l[top]) top = i;
    }
    std::vector<double> log_p(259);
    for (size_t i = 0; i < 259; ++i) log_p[i] = double{l[i]} - std::log(total);
    all.log_p.push_back(std::move(log_p));
    all.top.push_back(top);
  }
  return all;
}

TEST(Divergence, AgreesWithTheDefinitionOverWholeDistributions) {
  const SyntheticStore base({});
  const SyntheticStore model({.matrix_type = DType::kQ8_0});
  const std::string text = SyntheticText(1000);
  PerplexityOptions options;
  options.context = 50;
  const Report report = PerplexityAgainst(model, base, text, options);
  ASSERT_TRUE(report.divergence.has_value());
  const Divergence& divergence = *report.divergence;

  const TextWindows windows = CutText(model, text, options);
  const Distributions p = AllLogProbabilities(base, windows);
  const Distributions q = AllLogProbabilities(model, windows);
  ASSERT_EQ(report.predictions.kld.size(), p.top.size());
  double kld_sum = 0, nll_sum = 0, base_sum = 0;
  uint64_t n_same = 0;
  for (size_t row = 0; row < p.top.size(); ++row) {
    double kld = 0;
    for (size_t i = 0; i < 259; ++i) {
      kld += std::exp(p.log_p[row][i]) * (p.log_p[row][i] - q.log_p[row][i]);
    }
    EXPECT_NEAR(report.predictions.kld[row], kld, 1e-9);
    EXPECT_EQ((report.predictions.top1[row] & kSameTop1) != 0, p.top[row] == q.top[row]);
    const auto target = static_cast<size_t>(windows.targets[row]);
    EXPECT_NEAR(report.predictions.nll[row], -q.log_p[row][target], 1e-9);
    EXPECT_NEAR(report.predictions.reference_nll[row], -p.log_p[row][target], 1e-9);
    kld_sum += kld;
    nll_sum -= q.log_p[row][target];
    base_sum -= p.log_p[row][target];
    n_same += p.top[row] == q.top[row];
  }
  const auto n = static_cast<double>(p.top.size());
  EXPECT_GT(kld_sum, 0);
  EXPECT_NEAR(divergence.kld.mean.value, kld_sum / n, 1e-9);
  const double agreement = static_cast<double>(n_same) / n;
  EXPECT_NEAR(divergence.top1_agreement.value, agreement, 1e-12);
  EXPECT_NEAR(divergence.ln_perplexity_ratio.value, (nll_sum - base_sum) / n, 1e-9);
  EXPECT_NEAR(divergence.reference_perplexity.value, std::exp(base_sum / n), 1e-6);
  EXPECT_LT(divergence.ln_perplexity_ratio.standard_error, report.mean_nll.standard_error);

  const Report alone = Perplexity(model, text, options);
  EXPECT_EQ(alone.predictions.nll, report.predictions.nll);
  EXPECT_FALSE(alone.divergence.has_value());
}

TEST(Divergence, AModelDoesNotDivergeFromItself) {
  const SyntheticStore store({});
  PerplexityOptions options;
  options.context = 32;
  const Report report = PerplexityAgainst(store, store, SyntheticText(500), options);
  EXPECT_EQ(report.divergence->kld.mean.value, 0);
  EXPECT_EQ(report.divergence->kld.mean.standard_error, 0);
  EXPECT_EQ(report.divergence->top1_agreement.value, 1);
  EXPECT_EQ(report.divergence->ln_perplexity_ratio.value, 0);
  EXPECT_EQ(report.divergence->reference_perplexity.value, report.perplexity.value);
}

TEST(Divergence, GroupsAndThreadsDoNotMatter) {
  const SyntheticStore base({}), model({.matrix_type = DType::kF16});
  PerplexityOptions options;
  options.context = 64;
  options.threads = 1;
  const Report one = PerplexityAgainst(model, base, SyntheticText(1500), options);
  options.threads = 7;
  const Report seven = PerplexityAgainst(model, base, SyntheticText(1500), options);
  EXPECT_EQ(one.predictions.kld, seven.predictions.kld);
  options.memory_bytes = 1 << 20;
  const Report groups = PerplexityAgainst(model, base, SyntheticText(1500), options);
  EXPECT_EQ(groups.predictions.kld, one.predictions.kld);
}

TEST(Divergence, OtherVocabulariesAreRefused) {
  const SyntheticStore base({});
  SyntheticStore model({});
  model.mutable_manifest().tokenizer.add_space_prefix = true;
  PerplexityOptions options;
  options.context = 16;
  try {
    PerplexityAgainst(model, base, SyntheticText(200), options);
    FAIL() << "models with different tokens were compared";
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "divergence.vocabulary");
  }
}

}  // namespace
}  // namespace quern
