#include "verify/perplexity.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>

#include "formats/core/error.h"
#include "formats/core/hash.h"
#include "verify/baseline.h"
#include "verify/divergence.h"
#include "verify/evaluate.h"
#include "verify/logits_reference.h"

namespace quern {
namespace {

// What is known before anything is evaluated.
Report ReportFor(const TensorStore& model, std::string_view text, const TextWindows& windows,
                 const PerplexityOptions& options) {
  Report report;
  report.model_name = model.name();
  for (const TensorInfo& tensor : model.manifest().tensors) {
    report.model_bytes += tensor.size_bytes();
    report.model_weights += tensor.rows() * tensor.cols();
  }
  report.model_fingerprint = Fingerprint(model);
  report.protocol = options.protocol;
  report.compute = options.forward.compute;
  report.context = windows.context;
  report.text_windows = windows.text_windows;
  report.part = options.part;
  report.parts = options.parts;
  report.text_bytes = text.size();
  report.text_xxh3 = Xxh3(AsBytes(text));
  report.text_tokens = windows.text_tokens;
  return report;
}

}  // namespace

std::vector<Report> ComparePerplexity(std::span<const TensorStore* const> models,
                                      const TensorStore* reference, std::string_view text,
                                      const PerplexityOptions& given) {
  const auto start = std::chrono::steady_clock::now();
  PerplexityOptions options = given;
  const LogitsFile* logits = options.reference_logits;
  if (logits != nullptr && options.context == 0) options.context = logits->layout().context;
  const ForwardOptions forward = SharedWorkspaces(options);
  std::vector<std::unique_ptr<LanguageModel>> opened;
  std::vector<Candidate> candidates;
  const auto open = [&](const TensorStore& store) -> Candidate {
    opened.push_back(OpenLanguageModel(store, forward));
    return {opened.back().get(), store.name()};
  };
  for (const TensorStore* model : models) candidates.push_back(open(*model));
  Candidate base = {};
  if (reference != nullptr) base = open(*reference);

  const TensorStore& first = reference != nullptr ? *reference : *models.front();
  TextWindows windows = CutText(first, text, options);
  for (const TensorStore* model : models) {
    if (model != &first) CheckSameVocabulary(*model, first, windows, text, options);
  }

  const uint64_t vocab_size = first.manifest().spec->vocab_size;
  if (logits != nullptr) AlignLogits(*logits, vocab_size, windows);

  std::vector<Report> reports;
  for (const TensorStore* model : models) {
    reports.push_back(ReportFor(*model, text, windows, options));
  }
  std::vector<double> baseline_nll;  // per window
  if (options.baseline != nullptr) {
    baseline_nll = AlignBaseline(*options.baseline, options.baseline_name, reports[0], windows);
  }

  const auto judge = [&](const Predictions& predictions) {
    const uint64_t done = predictions.nll.size() / windows.n_scored;
    const std::span places = std::span(windows.places).first(done);
    const bool against_baseline =
        reference == nullptr && logits == nullptr && !baseline_nll.empty();
    return Judge(options.gates, SeriesOf(places, predictions, windows.n_scored), windows.n_windows,
                 windows.n_scored,
                 against_baseline ? std::span(baseline_nll).first(done) : std::span<double>());
  };
  Looks looks;
  if (!options.gates.gates.empty()) {
    looks.windows = GateLooks(windows.n_windows);
    looks.enough = [&](std::span<const Predictions> all) {
      return std::ranges::all_of(all, [&](const Predictions& predictions) {
        return judge(predictions).decision != Decision::kUndecided;
      });
    };
  }
  std::unique_ptr<LogitsWriter> save;
  if (options.save_logits) {
    save = MakeLogitsWriter(options.save_logits(LogitsFileBytes(vocab_size, windows)), vocab_size,
                            windows);
  }
  std::vector<Predictions> all =
      Evaluate(candidates, {.model = reference == nullptr ? nullptr : &base, .logits = logits},
               windows, options, looks, save.get());
  if (save != nullptr) save->Finish();

  ReferenceInfo compared_with;
  if (reference != nullptr) compared_with = {reference->name(), Fingerprint(*reference), false};
  if (logits != nullptr) compared_with = {logits->name(), logits->Fingerprint(), true};
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  for (size_t i = 0; i < reports.size(); ++i) {
    Report& report = reports[i];
    report.seconds = seconds.count();
    report.predictions = std::move(all[i]);
    const uint64_t done = report.predictions.nll.size() / windows.n_scored;
    Summarize(std::span(windows.places).first(done), compared_with, report);
    if (!options.gates.gates.empty()) report.verdict = judge(report.predictions);
    if (options.baseline != nullptr) {
      report.baseline = CompareWithBaseline(*options.baseline, options.baseline_name,
                                            std::span(baseline_nll).first(done), report);
    }
  }
  std::ranges::stable_sort(reports, {}, &Report::model_bytes);
  return reports;
}

Report Perplexity(const TensorStore& model, std::string_view text,
                  const PerplexityOptions& options) {
  const TensorStore* const models[] = {&model};
  return std::move(ComparePerplexity(models, nullptr, text, options).front());
}

uint64_t Fingerprint(const TensorStore& model) {
  constexpr uint64_t kFingerprintRows = 8;
  Xxh3Stream hash;
  std::vector<uint8_t> row;
  const std::vector<TensorInfo>& tensors = model.manifest().tensors;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorInfo& tensor = tensors[i];
    hash.Update(AsBytes(tensor.name + " " + std::string(NameOf(tensor.dtype)) + " " +
                        tensor.shape.ToString() + "\n"));
    if (tensor.rows() == 0) continue;
    row.resize(tensor.row_bytes());
    const uint64_t n = std::min(tensor.rows(), kFingerprintRows);
    for (uint64_t k = 0; k < n; ++k) {
      model.ReadRows(i, n == 1 ? 0 : (tensor.rows() - 1) * k / (n - 1), 1, row);
      hash.Update(row);
    }
  }
  return hash.Digest();
}

}  // namespace quern
