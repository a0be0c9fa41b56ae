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

// Fewer say too little about their own spread to decide anything.
constexpr uint64_t kMinWindows = 8;
constexpr uint64_t kFirstLook = 8;
// Differences of a pair hardly depend on what the text is about, so that neighbours tell almost as
// much as windows far apart; what is measured of one model does depend on it: fewer, longer
// batches.
constexpr uint64_t kLeastBatchesOfPairs = 8;
constexpr uint64_t kLeastBatches = 4;

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

// How far the mean may be from that of the values, on either side.
struct Interval {
  double below, above;
};

// Returns x with P(T <= x) as large as that of `t` where T is Student's statistic of `n` values of
// the skewness `skew`. Source: P. Hall, "On the removal of skewness by transformation", 1992.
double Skewed(double t, double skew, double n) {
  if (std::abs(skew) < 1e-9) return t;
  const double a = skew / std::sqrt(n);
  return 3 / a * (std::cbrt(1 + a * (t - a / 6)) - 1);
}

// Student's interval for means of batches, made wider on the side of a longer tail, never narrower.
Interval IntervalOf(std::span<const double> means, double error) {
  const auto n = static_cast<double>(means.size());
  const Estimate estimate = EstimateMean(means);
  double squares = 0, cubes = 0;
  for (const double value : means) {
    const double deviation = value - estimate.value;
    squares += deviation * deviation;
    cubes += deviation * deviation * deviation;
  }
  if (squares == 0) return {0, 0};
  const double skew = cubes / n / std::pow(squares / n, 1.5);
  const double t = StudentQuantile(1 - error, n - 1);
  return {std::max(t, Skewed(t, skew, n)) * estimate.standard_error,
          std::max(t, -Skewed(-t, skew, n)) * estimate.standard_error};
}

// Returns the widest of the intervals over batches of 1, 2, 4, … windows, which make up for
// neighbouring windows that resemble each other. There are `least_batches` at least.
Interval WidestInterval(std::span<const double> values, double error, uint64_t least_batches) {
  Interval widest = IntervalOf(values, error);
  for (uint64_t batch = 2; values.size() / batch >= least_batches; batch *= 2) {
    const uint64_t n_values = values.size() / batch * batch;
    const Interval interval = IntervalOf(WindowMeans(values.first(n_values), batch), error);
    widest = {std::max(widest.below, interval.below), std::max(widest.above, interval.above)};
  }
  return widest;
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
      if (result.windows < kMinWindows) {
        return fmt::format("{} windows are too few to decide, at least {} are needed",
                           result.windows, kMinWindows);
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
  for (const uint64_t look : looks) all_looks += static_cast<double>(look);
  const std::span<const double> values = question.values;
  for (const uint64_t look : looks) {
    if (look > values.size() || result.decision != Decision::kUndecided) break;
    result.windows = look;
    if (look < kMinWindows) break;
    // The error is spent in proportion to the windows: late looks, which decide what is hard, get
    // most of it, and early ones, where Student's distribution is a poor guess, little.
    const double spent = error * static_cast<double>(look) / all_looks;
    const double mean = EstimateMean(values.first(look)).value;
    const double floor = -std::log(spent) * question.resolution / static_cast<double>(look);
    const Interval interval = WidestInterval(
        values.first(look), spent,
        gate.kind == GateKind::kMaxPerplexityRatio ? kLeastBatchesOfPairs : kLeastBatches);
    const double low = mean - interval.below;
    const double high = mean + std::max(interval.above, floor);
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
