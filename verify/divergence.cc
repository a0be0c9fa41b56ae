#include "verify/divergence.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>
#include <vector>

#include "formats/core/check.h"
#include "verify/statistics.h"

namespace quern {
namespace {

std::vector<double> RatiosOf(const Predictions& predictions) {
  std::vector<double> ratios(predictions.nll.size());
  for (size_t i = 0; i < ratios.size(); ++i) {
    ratios[i] = predictions.nll[i] - predictions.reference_nll[i];
  }
  return ratios;
}

std::vector<double> DeltaPOf(const Predictions& predictions) {
  std::vector<double> deltas(predictions.nll.size());
  for (size_t i = 0; i < deltas.size(); ++i) {
    deltas[i] = std::exp(-predictions.nll[i]) - std::exp(-predictions.reference_nll[i]);
  }
  return deltas;
}

// One where, of `mask`, just the bits `wanted` are set; else zero.
std::vector<double> Where(const Predictions& predictions, int mask, int wanted) {
  std::vector<double> is(predictions.top1.size());
  std::ranges::transform(predictions.top1, is.begin(),
                         [=](uint8_t bits) { return (bits & mask) == wanted ? 1.0 : 0.0; });
  return is;
}

// The root of a mean of squares, and its error by the delta method: the mean's / (2 root).
Estimate RootOf(const Estimate& mean) {
  const double root = std::sqrt(mean.value);
  return {root, root > 0 ? mean.standard_error / (2 * root) : mean.standard_error};
}

}  // namespace

Divergence DivergenceOf(const Predictions& predictions, uint64_t per_window) {
  const size_t n = predictions.nll.size();
  QUERN_CHECK(n > 0 && predictions.reference_nll.size() == n && predictions.kld.size() == n &&
              predictions.top1.size() == n);
  const auto mean = [&](const std::vector<double>& values) {
    return EstimateOverWindows(values, per_window);
  };
  Divergence divergence;
  divergence.reference_perplexity = ExpOf(EstimateMean(predictions.reference_nll));
  divergence.ln_perplexity_ratio = mean(RatiosOf(predictions));
  divergence.perplexity_ratio = ExpOf(divergence.ln_perplexity_ratio);
  divergence.kld = Describe(predictions.kld, per_window);
  std::vector<double> delta_p = DeltaPOf(predictions);
  divergence.delta_p = Describe(delta_p, per_window);
  for (double& delta : delta_p) delta *= delta;
  divergence.rms_delta_p = RootOf(mean(delta_p));
  divergence.top1_agreement = mean(Where(predictions, kSameTop1, kSameTop1));
  const int both = kReferenceRight | kModelRight;
  std::vector<double> flips = Where(predictions, both, kReferenceRight);
  divergence.lost = mean(flips);
  const std::vector<double> gained = Where(predictions, both, kModelRight);
  divergence.gained = mean(gained);
  std::ranges::transform(flips, gained, flips.begin(), std::plus<>());
  divergence.flips = mean(flips);
  return divergence;
}

WindowSeries SeriesOf(std::span<const uint64_t> places, const Predictions& predictions,
                      uint64_t per_window) {
  WindowSeries series;
  series.place.assign(places.begin(), places.end());
  series.nll = WindowMeans(predictions.nll, per_window);
  QUERN_CHECK(series.nll.size() == places.size());
  if (predictions.reference_nll.empty()) return series;
  series.reference_nll = WindowMeans(predictions.reference_nll, per_window);
  series.kld = WindowMeans(predictions.kld, per_window);
  series.delta_p = WindowMeans(DeltaPOf(predictions), per_window);
  series.top1_agreement = WindowMeans(Where(predictions, kSameTop1, kSameTop1), per_window);
  return series;
}

void Summarize(std::span<const uint64_t> places, ReferenceInfo reference, Report& report) {
  const Predictions& predictions = report.predictions;
  QUERN_CHECK(!places.empty() && predictions.nll.size() % places.size() == 0);
  const uint64_t per_window = predictions.nll.size() / places.size();
  report.windows = places.size();
  report.tokens = predictions.nll.size();
  report.mean_nll = EstimateMean(predictions.nll);
  report.perplexity = ExpOf(report.mean_nll);
  report.series = SeriesOf(places, predictions, per_window);
  if (predictions.reference_nll.empty()) return;
  report.divergence = DivergenceOf(predictions, per_window);
  report.divergence->reference = std::move(reference);
}

Report PerplexityAgainst(const TensorStore& model, const TensorStore& reference,
                         std::string_view text, const PerplexityOptions& options) {
  const TensorStore* const models[] = {&model};
  return std::move(ComparePerplexity(models, &reference, text, options).front());
}

}  // namespace quern
