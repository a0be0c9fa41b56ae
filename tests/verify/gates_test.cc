#include "verify/gates.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <map>
#include <numeric>
#include <random>
#include <sstream>

#include "verify/statistics.h"

namespace quern {
namespace {

// A series whose models differ by `differences` from window to window.
WindowSeries PairedSeries(const std::vector<double>& differences) {
  WindowSeries series;
  for (size_t i = 0; i < differences.size(); ++i) {
    series.place.push_back(i);
    series.reference_nll.push_back(2.5);
    series.nll.push_back(2.5 + differences[i]);
  }
  series.kld.assign(differences.size(), 0.01);
  series.delta_p.assign(differences.size(), 0.0);
  series.top1_agreement.assign(differences.size(), 0.97);
  return series;
}

// `n` values that alternate between mean - spread and mean + spread.
std::vector<double> Alternating(size_t n, double mean, double spread) {
  std::vector<double> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = mean + (i % 2 == 0 ? -spread : spread);
  return values;
}

GateResult JudgeOne(GateKind kind, double limit, const WindowSeries& series, uint64_t n_windows = 0,
                    uint64_t per_window = 255) {
  return Judge({.gates = {{kind, limit}}}, series, n_windows == 0 ? series.size() : n_windows,
               per_window)
      .gates.at(0);
}

TEST(Gates, AreJudgedAtFixedNumbersOfWindows) {
  EXPECT_EQ(GateLooks(655),
            (std::vector<uint64_t>{8, 16, 24, 40, 64, 96, 144, 216, 328, 496, 655}));
  EXPECT_EQ(GateLooks(123), (std::vector<uint64_t>{8, 16, 24, 40, 64, 96, 123}));
  EXPECT_EQ(GateLooks(100), (std::vector<uint64_t>{8, 16, 24, 40, 64, 100}));
  EXPECT_EQ(GateLooks(17), (std::vector<uint64_t>{8, 17}));
  EXPECT_EQ(GateLooks(9), (std::vector<uint64_t>{9}));
  EXPECT_EQ(GateLooks(3), (std::vector<uint64_t>{3}));
}

TEST(Gates, AClearAnswerComesAtTheFirstLook) {
  const WindowSeries good = PairedSeries(Alternating(100, 0.0, 0.001));
  GateResult result = JudgeOne(GateKind::kMaxPerplexityRatio, 1.01, good);
  EXPECT_EQ(result.decision, Decision::kPassed);
  EXPECT_EQ(result.windows, 8u);
  EXPECT_DOUBLE_EQ(result.value, 1);
  EXPECT_DOUBLE_EQ(result.tolerated, 1.01 * 1.02);
  EXPECT_LT(result.lower, 1);
  EXPECT_GT(result.upper, 1);
  EXPECT_NE(result.reason.find("after 8 windows"), std::string::npos) << result.reason;

  const WindowSeries bad = PairedSeries(Alternating(100, std::log(1.05), 0.001));
  result = JudgeOne(GateKind::kMaxPerplexityRatio, 1.01, bad);
  EXPECT_EQ(result.decision, Decision::kFailed);
  EXPECT_EQ(result.windows, 8u);
  EXPECT_NE(result.reason.find("above the limit 1.01"), std::string::npos) << result.reason;
}

TEST(Gates, SpreadTakesLongerAndMayDecideNothing) {
  const GateResult late =
      JudgeOne(GateKind::kMaxPerplexityRatio, 1.01, PairedSeries(Alternating(655, 0.0, 0.05)));
  EXPECT_EQ(late.decision, Decision::kPassed);
  EXPECT_GT(late.windows, 8u);
  const GateResult never =
      JudgeOne(GateKind::kMaxPerplexityRatio, 1.01, PairedSeries(Alternating(40, 0.02, 0.2)));
  EXPECT_EQ(never.decision, Decision::kUndecided);
  EXPECT_EQ(never.windows, 40u);
  EXPECT_NE(never.reason.find("spans both"), std::string::npos) << never.reason;
  const GateResult few =
      JudgeOne(GateKind::kMaxPerplexityRatio, 1.01, PairedSeries(Alternating(7, 0.0, 0.001)));
  EXPECT_EQ(few.decision, Decision::kUndecided);
  EXPECT_NE(few.reason.find("too few"), std::string::npos) << few.reason;
}

TEST(Gates, NothingIsDecidedBetweenLooks) {
  // 15 of 655 windows: only the look at 8 has passed.
  const std::vector<double> all = Alternating(15, 0.0, 0.01);
  const GateResult result = JudgeOne(GateKind::kMaxPerplexityRatio, 1.01, PairedSeries(all), 655);
  EXPECT_EQ(result.windows, 8u);
}

TEST(Gates, EachComparesItsOwnQuantity) {
  const WindowSeries series = PairedSeries(Alternating(64, 0.0, 0.001));
  EXPECT_EQ(JudgeOne(GateKind::kMaxPerplexity, 12.3, series).decision, Decision::kPassed);
  EXPECT_EQ(JudgeOne(GateKind::kMaxPerplexity, 12.0, series).decision, Decision::kFailed);
  EXPECT_NEAR(JudgeOne(GateKind::kMaxPerplexity, 12.0, series).value, std::exp(2.5), 1e-9);
  EXPECT_EQ(JudgeOne(GateKind::kMaxKld, 0.01, series).decision, Decision::kPassed);
  EXPECT_EQ(JudgeOne(GateKind::kMaxKld, 0.009, series).decision, Decision::kFailed);
  EXPECT_EQ(JudgeOne(GateKind::kMinAgreement, 0.97, series).decision, Decision::kPassed);
  EXPECT_EQ(JudgeOne(GateKind::kMinAgreement, 0.98, series).decision, Decision::kFailed);
  EXPECT_NEAR(JudgeOne(GateKind::kMinAgreement, 0.98, series).value, 0.97, 1e-12);
}

TEST(Gates, NoDisagreementAmongFewPredictionsProvesNothing) {
  WindowSeries series = PairedSeries(Alternating(64, 0.0, 0.001));
  series.top1_agreement.assign(64, 1.0);
  EXPECT_EQ(JudgeOne(GateKind::kMinAgreement, 0.999, series).decision, Decision::kPassed);
  EXPECT_EQ(JudgeOne(GateKind::kMinAgreement, 0.999, series, 0, 1).decision, Decision::kUndecided);
}

TEST(Gates, OneThatFailsDecidesForAll) {
  const WindowSeries series = PairedSeries(Alternating(64, 0.0, 0.001));
  GateOptions options = {
      .gates = {{GateKind::kMaxPerplexityRatio, 1.01}, {GateKind::kMaxKld, 0.02}}};
  EXPECT_EQ(Judge(options, series, 64, 255).decision, Decision::kPassed);
  options.gates[1].limit = 0.001;
  EXPECT_EQ(Judge(options, series, 64, 255).decision, Decision::kFailed);
  const WindowSeries some = PairedSeries(Alternating(4, 0.0, 0.001));
  EXPECT_EQ(Judge(options, some, 64, 255).decision, Decision::kUndecided);
}

TEST(Gates, ABaselineTakesTheReferencesPlace) {
  const WindowSeries series = PairedSeries(Alternating(64, 0.0, 0.001));
  const std::vector<double> baseline(64, 2.4);
  const GateOptions options = {.gates = {{GateKind::kMaxPerplexityRatio, 1.01}}};
  EXPECT_EQ(Judge(options, series, 64, 255).decision, Decision::kPassed);
  EXPECT_EQ(Judge(options, series, 64, 255, baseline).decision, Decision::kFailed);
}

// What quern measured in the windows of real texts (tests/data/windows/record.sh): values by
// "pair quantity".
std::map<std::string, std::vector<double>> RecordedSeries() {
  std::map<std::string, std::vector<double>> all;
  std::ifstream in(QUERN_TEST_DATA "/windows/pairs.txt");
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string pair, quantity;
    words >> pair >> quantity;
    std::vector<double>& values = all[pair + " " + quantity];
    for (double value = 0; words >> value;) values.push_back(value);
  }
  return all;
}

// A text of `n` windows made of runs of `block` recorded windows, each from a random place: what is
// correlated within a run stays so.
std::vector<double> Resample(const std::vector<double>& recorded, size_t n, size_t block,
                             std::mt19937_64& random) {
  std::vector<double> text;
  while (text.size() < n) {
    const size_t begin = random() % recorded.size();
    for (size_t i = 0; i < block && text.size() < n; ++i) {
      text.push_back(recorded[(begin + i) % recorded.size()]);
    }
  }
  return text;
}

// A recorded series of a gate's quantity.
struct Recording {
  GateKind kind;
  std::string name;
  std::vector<double> values;
  uint64_t per_window;  // predictions

  double mean() const {
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  }
};

std::vector<Recording> Recordings() {
  const std::map<std::string, GateKind> kinds = {{"ln_ratio", GateKind::kMaxPerplexityRatio},
                                                 {"kld", GateKind::kMaxKld},
                                                 {"nll", GateKind::kMaxPerplexity},
                                                 {"agreement", GateKind::kMinAgreement}};
  std::vector<Recording> recordings;
  for (const auto& [name, values] : RecordedSeries()) {
    const uint64_t per_window = name.starts_with("tinystories/")          ? 127
                                : name.starts_with("stories260K-austen/") ? 63
                                                                          : 255;
    recordings.push_back({kinds.at(name.substr(name.find(' ') + 1)), name, values, per_window});
  }
  return recordings;
}

// How a text of such values is judged where the limit is this, in the unit of the values.
GateResult JudgeText(const Recording& recording, const std::vector<double>& text, double limit) {
  WindowSeries series = PairedSeries(text);
  switch (recording.kind) {
    case GateKind::kMaxPerplexity:
      series.nll = text;
      limit = std::exp(limit);
      break;
    case GateKind::kMaxPerplexityRatio:
      limit = std::exp(limit);
      break;
    case GateKind::kMaxKld:
      series.kld = text;
      break;
    case GateKind::kMinAgreement:
      series.top1_agreement = text;
      break;
  }
  return JudgeOne(recording.kind, limit, series, 0, recording.per_window);
}

// The limit that a mean of `value` breaks so clearly that the gate must not pass.
double ClearlyBroken(GateKind kind, double value) {
  switch (kind) {
    case GateKind::kMaxPerplexity:
    case GateKind::kMaxPerplexityRatio:
      return value - std::log(1.02);
    case GateKind::kMaxKld:
      return value / 1.1;
    case GateKind::kMinAgreement:
      return value + 0.005;
  }
  return 0;
}

// How often 1,000 texts are judged wrongly where the recorded mean is the limit (wrong: failed),
// and where it is as bad as "clearly worse" begins (wrong: passed). Both are the hardest cases.
struct WrongAnswers {
  int failed = 0, passed = 0;
};

WrongAnswers Trials(const Recording& recording, size_t n, size_t block) {
  constexpr int kTrials = 1000;
  const double good = recording.mean();
  const double bad = ClearlyBroken(recording.kind, good);
  const bool may_be_bad = recording.kind != GateKind::kMinAgreement || bad <= 1;
  std::mt19937_64 random(n * 100 + block);
  WrongAnswers wrong;
  for (int trial = 0; trial < kTrials; ++trial) {
    const std::vector<double> text = Resample(recording.values, n, block, random);
    if (JudgeText(recording, text, good).decision == Decision::kFailed) ++wrong.failed;
    if (may_be_bad && JudgeText(recording, text, bad).decision == Decision::kPassed) ++wrong.passed;
  }
  return wrong;
}

// All gates, on real pairs, in texts from too short to long and from mixed to uniform.
TEST(GateTrials, AreJudgedWronglyInOnePercentAtMost) {
  std::map<GateKind, int> n_pairs, most;
  for (const Recording& recording : Recordings()) {
    ++n_pairs[recording.kind];
    for (const size_t n : {16u, 40u, 60u, 123u, 200u}) {
      for (const size_t block : {1u, 8u}) {
        const WrongAnswers wrong = Trials(recording, n, block);
        EXPECT_LE(wrong.failed, 10) << recording.name << ", " << n << " in runs of " << block;
        EXPECT_LE(wrong.passed, 10) << recording.name << ", " << n << " in runs of " << block;
        most[recording.kind] = std::max({most[recording.kind], wrong.failed, wrong.passed});
      }
    }
  }
  for (const GateInfo& info : AllGates()) {
    EXPECT_EQ(n_pairs[info.kind], 14) << info.name;
    std::cout << info.name << ": at most " << most[info.kind] << " of 1000 wrong\n";
  }
}

// A gate that never answers makes no mistake either. These answer where the mean of the recorded
// text is 10 standard errors beyond the limit or below what is clearly worse; 12 in kjv.txt, whose
// neighbouring windows are alike (correlation 0.4), which the standard error does not know.
TEST(GateTrials, ClearCasesAreDecided) {
  int n_texts = 0;
  for (const Recording& recording : Recordings()) {
    if (recording.values.size() < 100) continue;
    ++n_texts;
    std::vector<double> text = recording.values;
    text.resize(std::min<size_t>(text.size(), 123));
    const Estimate mean = EstimateMean(text);
    const double errors = recording.name.starts_with("kjv/") ? 12 : 10;
    const double worse = recording.kind == GateKind::kMinAgreement ? -1 : 1;
    const double below = mean.value - worse * errors * mean.standard_error;
    const double above = mean.value + worse * errors * mean.standard_error;
    EXPECT_NE(JudgeText(recording, text, below).decision, Decision::kUndecided) << recording.name;
    const double limit = ClearlyBroken(recording.kind, above);
    EXPECT_NE(JudgeText(recording, text, limit).decision, Decision::kUndecided) << recording.name;
  }
  EXPECT_EQ(n_texts, 44);
}

TEST(GateTrials, GoodModelsPassTheRatioWithin16Windows) {
  for (const Recording& recording : Recordings()) {
    if (recording.kind != GateKind::kMaxPerplexityRatio || recording.values.size() > 130) continue;
    if (recording.name.find("/q8_0") == std::string::npos &&
        recording.name.find("/q4_k_m") == std::string::npos) {
      continue;
    }
    const GateResult result = JudgeText(recording, recording.values, std::log(1.01));
    EXPECT_EQ(result.decision, Decision::kPassed) << recording.name;
    EXPECT_LE(result.windows, 16u) << recording.name;
  }
}

}  // namespace
}  // namespace quern
