#include "verify/perplexity.h"

#include <chrono>
#include <cmath>

#include "formats/core/hash.h"
#include "verify/evaluate.h"
#include "verify/report_builder.h"

namespace quern {

Estimate EstimateMean(std::span<const double> values) {
  if (values.empty()) return {};
  const auto n = static_cast<double>(values.size());
  double sum = 0;
  for (const double value : values) sum += value;
  const double mean = sum / n;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, values.size() < 2 ? 0.0 : std::sqrt(squares / n / (n - 1))};
}

Estimate PerplexityOf(const Estimate& mean_nll) {
  const double perplexity = std::exp(mean_nll.value);
  return {perplexity, perplexity * mean_nll.standard_error};
}

Report MakeReport(const TensorStore& model, std::string_view text, const TextWindows& windows,
                  const PerplexityOptions& options, std::vector<double> nll, double seconds) {
  Report report;
  report.model_name = model.name();
  report.protocol = options.protocol;
  report.compute = options.forward.compute;
  report.context = windows.context;
  report.windows = windows.n_windows;
  report.text_bytes = text.size();
  report.text_xxh3 = Xxh3(AsBytes(text));
  report.text_tokens = windows.text_tokens;
  report.tokens = nll.size();
  report.mean_nll = EstimateMean(nll);
  report.perplexity = PerplexityOf(report.mean_nll);
  report.seconds = seconds;
  report.nll = std::move(nll);
  return report;
}

Report Perplexity(const TensorStore& model, std::string_view text,
                  const PerplexityOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const auto opened = OpenLanguageModel(model, options.forward);
  const TextWindows windows = CutText(model, text, options);
  Predictions predictions = Evaluate({opened.get(), model.name()}, nullptr, windows, options);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return MakeReport(model, text, windows, options, std::move(predictions.nll), seconds.count());
}

}  // namespace quern
