#include "verify/divergence.h"

#include <chrono>
#include <string>

#include "formats/core/error.h"
#include "verify/evaluate.h"
#include "verify/report_builder.h"

namespace quern {
namespace {

void CheckSameVocabulary(const TensorStore& model, const TensorStore& reference,
                         const TextWindows& windows, std::string_view text,
                         const PerplexityOptions& options) {
  const auto differ = [&](std::string_view what, const std::string& found,
                          const std::string& expected) {
    throw DataError("divergence.vocabulary", what)
        .File(model.name())
        .Found(found)
        .Expected(expected + ", as in " + Quoted(reference.name()))
        .Hint("both models must have the same vocabulary");
  };
  const uint64_t size = model.manifest().spec->vocab_size;
  const uint64_t reference_size = reference.manifest().spec->vocab_size;
  if (size != reference_size) {
    differ("the vocabularies of model and reference differ in size", std::to_string(size),
           std::to_string(reference_size));
  }
  const TextWindows reference_windows = CutText(reference, text, options);
  if (windows.text_tokens != reference_windows.text_tokens ||
      windows.inputs != reference_windows.inputs || windows.targets != reference_windows.targets) {
    differ("model and reference read the text as different tokens",
           std::to_string(windows.text_tokens) + " tokens",
           std::to_string(reference_windows.text_tokens) + " tokens, the same ones");
  }
}

std::vector<double> Differences(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> differences(a.size());
  for (size_t i = 0; i < a.size(); ++i) differences[i] = a[i] - b[i];
  return differences;
}

}  // namespace

Report PerplexityAgainst(const TensorStore& model, const TensorStore& reference,
                         std::string_view text, const PerplexityOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const auto opened = OpenLanguageModel(model, options.forward);
  const auto opened_reference = OpenLanguageModel(reference, options.forward);
  const TextWindows windows = CutText(model, text, options);
  CheckSameVocabulary(model, reference, windows, text, options);

  const Candidate base = {opened_reference.get(), reference.name()};
  Predictions predictions = Evaluate({opened.get(), model.name()}, &base, windows, options);

  Divergence divergence;
  divergence.reference_name = reference.name();
  divergence.reference_perplexity = PerplexityOf(EstimateMean(predictions.reference_nll));
  divergence.mean_kld = EstimateMean(predictions.kld);
  divergence.top1_agreement = EstimateMean(
      std::vector<double>(predictions.same_top1.begin(), predictions.same_top1.end()));
  divergence.ln_perplexity_ratio =
      EstimateMean(Differences(predictions.nll, predictions.reference_nll));
  divergence.reference_nll = std::move(predictions.reference_nll);
  divergence.kld = std::move(predictions.kld);
  divergence.same_top1 = std::move(predictions.same_top1);

  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  Report report =
      MakeReport(model, text, windows, options, std::move(predictions.nll), seconds.count());
  report.divergence = std::move(divergence);
  return report;
}

}  // namespace quern
