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

TEST(Divergence, OfSinglePredictionsByHand) {
  // Two windows of two predictions. Probabilities of the text's tokens: the reference's 1/2, 1/4
  // and 1/2, 1/8; the model's 1/4, 1/4 and 1/2, 1/4.
  const double ln2 = std::log(2.0);
  Predictions predictions;
  predictions.reference_nll = {ln2, 2 * ln2, ln2, 3 * ln2};
  predictions.nll = {2 * ln2, 2 * ln2, ln2, 2 * ln2};
  predictions.kld = {0.3, 0.1, 0.0, 0.2};
  predictions.top1 = {kReferenceRight, kSameTop1, kSameTop1 | kReferenceRight | kModelRight,
                      kModelRight};
  const Divergence divergence = DivergenceOf(predictions, 2);

  // Differences ln2, 0 | 0, -ln2: means ln2 / 2 and -ln2 / 2; squares ln2^2 / 2; error ln2 / 2.
  EXPECT_NEAR(divergence.ln_perplexity_ratio.value, 0, 1e-15);
  EXPECT_NEAR(divergence.ln_perplexity_ratio.standard_error, ln2 / 2, 1e-15);
  EXPECT_NEAR(divergence.perplexity_ratio.value, 1, 1e-15);
  EXPECT_NEAR(divergence.perplexity_ratio.standard_error, ln2 / 2, 1e-15);
  EXPECT_NEAR(divergence.reference_perplexity.value, std::exp(7 * ln2 / 4), 1e-12);
  // 0.2 and 0.1: mean 0.15, error 0.05.
  EXPECT_NEAR(divergence.kld.mean.value, 0.15, 1e-15);
  EXPECT_NEAR(divergence.kld.mean.standard_error, 0.05, 1e-15);
  EXPECT_EQ(divergence.kld.maximum, 0.3);
  EXPECT_EQ(divergence.kld.minimum, 0.0);
  EXPECT_NEAR(divergence.kld.percentiles[4].estimate.value, 0.15, 1e-15);              // the median
  EXPECT_NEAR(divergence.kld.percentiles[6].estimate.value, 0.2 + 0.85 * 0.1, 1e-15);  // 95 %
  // Delta p -1/4, 0 | 0, 1/8: means -1/8 and 1/16, so -1/32 with error 3/32; squares 1/16, 0 | 0,
  // 1/64: means 1/32 and 1/128, so 5/256 with error 3/256.
  EXPECT_NEAR(divergence.delta_p.mean.value, -1.0 / 32, 1e-15);
  EXPECT_NEAR(divergence.delta_p.mean.standard_error, 3.0 / 32, 1e-15);
  EXPECT_NEAR(divergence.delta_p.minimum, -0.25, 1e-15);
  EXPECT_NEAR(divergence.delta_p.maximum, 0.125, 1e-15);
  const double rms = std::sqrt(5.0 / 256);
  EXPECT_NEAR(divergence.rms_delta_p.value, rms, 1e-15);
  EXPECT_NEAR(divergence.rms_delta_p.standard_error, 3.0 / 256 / (2 * rms), 1e-15);
  EXPECT_EQ(divergence.top1_agreement.value, 0.5);
  EXPECT_EQ(divergence.top1_agreement.standard_error, 0);
  EXPECT_EQ(divergence.flips.value, 0.5);
  EXPECT_EQ(divergence.lost.value, 0.25);
  EXPECT_EQ(divergence.lost.standard_error, 0.25);
  EXPECT_EQ(divergence.gained.value, 0.25);

  const std::vector<uint64_t> places = {3, 7};
  const WindowSeries series = SeriesOf(places, predictions, 2);
  EXPECT_EQ(series.place, places);
  EXPECT_NEAR(series.nll[0], 2 * ln2, 1e-15);
  EXPECT_NEAR(series.reference_nll[1], 2 * ln2, 1e-15);
  EXPECT_NEAR(series.kld[0], 0.2, 1e-15);
  EXPECT_NEAR(series.delta_p[1], 1.0 / 16, 1e-15);
  EXPECT_EQ(series.top1_agreement, (std::vector<double>{0.5, 0.5}));
}

TEST(Divergence, SeveralModelsAreMeasuredAsEachAlone) {
  const SyntheticStore base({}), f16({.matrix_type = DType::kF16}),
      q8({.matrix_type = DType::kQ8_0});
  PerplexityOptions options;
  options.context = 50;
  const std::string text = SyntheticText(1000);
  const TensorStore* const models[] = {&f16, &q8};
  const std::vector<Report> all = ComparePerplexity(models, &base, text, options);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_LT(all[0].model_bytes, all[1].model_bytes);  // q8_0 comes first: by size.
  EXPECT_EQ(all[0].predictions.kld, PerplexityAgainst(q8, base, text, options).predictions.kld);
  EXPECT_EQ(all[1].predictions.nll, PerplexityAgainst(f16, base, text, options).predictions.nll);
  EXPECT_NE(all[0].model_fingerprint, all[1].model_fingerprint);
}

TEST(Divergence, GatesEndTheRunAndPartsOfMemoryDoNotMatter) {
  const SyntheticStore base({}), model({.matrix_type = DType::kQ8_0});
  PerplexityOptions options;
  options.context = 64;
  options.gates.gates = {{GateKind::kMaxPerplexityRatio, 1.2}};
  const std::string text = SyntheticText(6400);  // 100 windows
  const Report report = PerplexityAgainst(model, base, text, options);
  EXPECT_EQ(report.windows, 8u);
  EXPECT_EQ(report.text_windows, 100u);
  EXPECT_EQ(report.tokens, 8u * 31u);
  ASSERT_TRUE(report.verdict.has_value());
  EXPECT_EQ(report.verdict->decision, Decision::kPassed);
  options.memory_bytes = 1 << 20;
  const Report groups = PerplexityAgainst(model, base, text, options);
  EXPECT_EQ(groups.predictions.kld, report.predictions.kld);
  EXPECT_EQ(groups.verdict->gates[0].upper, report.verdict->gates[0].upper);
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
