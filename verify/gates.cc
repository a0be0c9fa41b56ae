#include "verify/gates.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "formats/core/check.h"
#include "verify/statistics.h"

namespace quern {
namespace {

constexpr std::array<GateInfo, 4> kGates = {{
    {GateKind::kMaxPerplexity, "max-ppl", "perplexity", false, 1e9},
    {GateKind::kMaxPerplexityRatio, "max-ppl-ratio", "perplexity ratio", true, 1e6},
    {GateKind::kMaxKld, "max-kld", "mean KLD", true, 1e3},
    {GateKind::kMinAgreement, "min-agreement", "top-1 agreement", true, 1},
}};

constexpr uint64_t kFirstLook = 8;
// Differences of a pair hardly depend on what the text is about, so that few windows tell how much
// they vary; what is measured of one model does depend on it, and KL divergence has a long tail.
constexpr uint64_t kMinWindowsOfRatio = 8;
constexpr uint64_t kMinWindows = 40;
constexpr uint64_t kLeastBatches = 8;
// Degrees of freedom of Student's distribution, however many the batches: how alike windows are
// that lie far apart is never known well.
constexpr double kDegrees = 5;

// Beyond these a limit is clearly broken; between the two any answer is right.
constexpr double kPerplexityMargin = 1.02;  // times the limit
constexpr double kKldMargin = 1.1;          // times the limit
constexpr double kAgreementMargin = 0.005;  // below the limit

// A gate as a question about the mean of a series: is it at most `limit` (yes: passed), or at least
// `broken` (failed)?
struct Question {
  std::vector<double> values;
  double limit, broken;
  double resolution = 0;  // Means are not known better than this over n windows, divided by n.
};

std::vector<double> Minus(std::span<const double> a, std::span<const double> b) {
  QUERN_CHECK(a.size() == b.size());
  std::vector<double> difference(a.size());
  for (size_t i = 0; i < a.size(); ++i) difference[i] = a[i] - b[i];
  return difference;
}

double Tolerated(const Gate& gate) {
  switch (gate.kind) {
    case GateKind::kMaxPerplexity:
    case GateKind::kMaxPerplexityRatio:
      return gate.limit * kPerplexityMargin;
    case GateKind::kMaxKld:
      return gate.limit * kKldMargin;
    case GateKind::kMinAgreement:
      return gate.limit - kAgreementMargin;
  }
  return 0;
}

// From the limit's unit to that of the series, where larger is worse; and back, within what is
// possible.
double ToSeries(GateKind kind, double value) {
  switch (kind) {
    case GateKind::kMaxPerplexity:
    case GateKind::kMaxPerplexityRatio:
      return std::log(value);
    case GateKind::kMaxKld:
      return value;
    case GateKind::kMinAgreement:
      return 1 - value;
  }
  return 0;
}
double FromSeries(GateKind kind, double value) {
  switch (kind) {
    case GateKind::kMaxPerplexity:
    case GateKind::kMaxPerplexityRatio:
      return std::exp(value);
    case GateKind::kMaxKld:
      return std::max(0.0, value);
    case GateKind::kMinAgreement:
      return std::clamp(1 - value, 0.0, 1.0);
  }
  return 0;
}

Question QuestionOf(const Gate& gate, const WindowSeries& series, uint64_t per_window,
                    std::span<const double> baseline_nll) {
  Question question = {.values = {},
                       .limit = ToSeries(gate.kind, gate.limit),
                       .broken = ToSeries(gate.kind, Tolerated(gate))};
  switch (gate.kind) {
    case GateKind::kMaxPerplexity:
      question.values = series.nll;
      break;
    case GateKind::kMaxPerplexityRatio:
      question.values =
          Minus(series.nll, baseline_nll.empty() ? std::span(series.reference_nll) : baseline_nll);
      break;
    case GateKind::kMaxKld:
      question.values = series.kld;
      break;
    case GateKind::kMinAgreement:
      for (const double agreement : series.top1_agreement) {
        question.values.push_back(1 - agreement);
      }
      // No disagreement among n predictions does not mean that there is none.
      question.resolution = 1 / static_cast<double>(per_window);
      break;
  }
  QUERN_CHECK(question.values.size() == series.size());
  return question;
}

// Returns the largest of the errors that batches of 1, 2, 4, … windows give the mean, which makes
// up for neighbouring windows that resemble each other.
double LargestError(std::span<const double> values) {
  double largest = EstimateMean(values).standard_error;
  for (uint64_t batch = 2; values.size() / batch >= kLeastBatches; batch *= 2) {
    const uint64_t n_values = values.size() / batch * batch;
    const std::vector<double> means = WindowMeans(values.first(n_values), batch);
    largest = std::max(largest, EstimateMean(means).standard_error);
  }
  return largest;
}

uint64_t MinWindows(GateKind kind) {
  return kind == GateKind::kMaxPerplexityRatio ? kMinWindowsOfRatio : kMinWindows;
}

// Divergence and disagreement spread the more the larger they are: a sample without the worst
// windows has both too small a mean and too small an error, so that above the mean the interval is
// symmetric in the logarithm.
bool SpreadsWithMean(GateKind kind) {
  return kind == GateKind::kMaxKld || kind == GateKind::kMinAgreement;
}

std::string Number(double value) { return fmt::format("{:.6g}", value); }

std::string ReasonOf(const GateInfo& info, const GateResult& result) {
  const bool at_least = result.gate.kind == GateKind::kMinAgreement;
  const std::string interval =
      fmt::format("{} {} in [{}, {}] after {} windows", info.quantity, Number(result.value),
                  Number(result.lower), Number(result.upper), result.windows);
  const std::string limit = Number(result.gate.limit);
  switch (result.decision) {
    case Decision::kPassed:
      return fmt::format("{}: {} {} (the limit {} and its margin)", interval,
                         at_least ? "above" : "below", Number(result.tolerated), limit);
    case Decision::kFailed:
      return fmt::format("{}: {} the limit {}", interval, at_least ? "below" : "above", limit);
    case Decision::kUndecided:
      if (result.windows < MinWindows(result.gate.kind)) {
        return fmt::format("{} windows are too few to decide, at least {} are needed",
                           result.windows, MinWindows(result.gate.kind));
      }
      return fmt::format("{}: spans both the limit {} and {}", interval, limit,
                         Number(result.tolerated));
  }
  return "";
}

// Judges one gate at the looks up to the windows there are.
GateResult JudgeGate(const Gate& gate, const Question& question, std::span<const uint64_t> looks,
                     double error) {
  GateResult result = {.gate = gate, .tolerated = Tolerated(gate), .windows = 0, .reason = ""};
  double all_looks = 0;
  for (const uint64_t look : looks) all_looks += std::sqrt(static_cast<double>(look));
  const std::span<const double> values = question.values;
  for (const uint64_t look : looks) {
    if (look > values.size() || result.decision != Decision::kUndecided) break;
    result.windows = look;
    if (look < MinWindows(gate.kind)) continue;
    // The error is spent in proportion to the root of the windows: late looks, which decide what is
    // hard, get most of it. What belongs to looks with too few windows is not spent.
    const double n = static_cast<double>(look);
    const double spent = error * std::sqrt(n) / all_looks;
    const double mean = EstimateMean(values.first(look)).value;
    const double half = StudentQuantile(1 - spent, kDegrees) * LargestError(values.first(look));
    const double above =
        SpreadsWithMean(gate.kind) && mean > 0 ? mean * std::expm1(half / mean) : half;
    const double low = mean - half;
    const double high = mean + std::max(above, -std::log(spent) * question.resolution / n);
    if (low > question.limit) {
      result.decision = Decision::kFailed;
    } else if (high < question.broken) {
      result.decision = Decision::kPassed;
    }
    result.value = FromSeries(gate.kind, mean);
    const double one_end = FromSeries(gate.kind, low);
    const double other_end = FromSeries(gate.kind, high);
    result.lower = std::min(one_end, other_end);
    result.upper = std::max(one_end, other_end);
  }
  return result;
}

}  // namespace

std::span<const GateInfo> AllGates() { return kGates; }

std::vector<uint64_t> GateLooks(uint64_t n_windows) {
  std::vector<uint64_t> looks;
  // Half as many again each time; the last but one is left out where it comes close to the last.
  for (uint64_t look = kFirstLook; look + look / 8 < n_windows; look += (look / 2 + 7) / 8 * 8) {
    looks.push_back(look);
  }
  looks.push_back(n_windows);
  return looks;
}

Verdict Judge(const GateOptions& options, const WindowSeries& series, uint64_t n_windows,
              uint64_t per_window, std::span<const double> baseline_nll) {
  const std::vector<uint64_t> looks = GateLooks(n_windows);
  // All gates together err no more often than one may.
  const double error = (1 - options.confidence) / 2 / static_cast<double>(options.gates.size());
  Verdict verdict = {.decision = Decision::kPassed, .confidence = options.confidence, .gates = {}};
  for (const Gate& gate : options.gates) {
    GateResult result =
        JudgeGate(gate, QuestionOf(gate, series, per_window, baseline_nll), looks, error);
    result.reason = ReasonOf(kGates[static_cast<size_t>(gate.kind)], result);
    if (result.decision == Decision::kFailed) verdict.decision = Decision::kFailed;
    if (result.decision == Decision::kUndecided && verdict.decision == Decision::kPassed) {
      verdict.decision = Decision::kUndecided;
    }
    verdict.gates.push_back(std::move(result));
  }
  return verdict;
}

}  // namespace quern
