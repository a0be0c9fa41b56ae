#include "verify/merge.h"

#include <gtest/gtest.h>

#include <functional>

#include "formats/core/error.h"
#include "tests/verify/synthetic_model.h"
#include "verify/divergence.h"
#include "verify/windows.h"

namespace quern {
namespace {

class Merge : public testing::Test {
 protected:
  Report Part(uint64_t part, uint64_t parts) const {
    PerplexityOptions options;
    options.context = 50;
    options.part = part;
    options.parts = parts;
    return PerplexityAgainst(model_, base_, text_, options);
  }
  std::vector<ReportPart> Parts(uint64_t parts) const {
    std::vector<ReportPart> all;
    for (uint64_t part = parts; part > 0; --part) {
      all.push_back({"part" + std::to_string(part) + ".json", Part(part, parts)});
    }
    return all;
  }

  SyntheticStore base_{{}}, model_{{.matrix_type = DType::kQ8_0}};
  std::string text_ = SyntheticText(1000);  // 20 windows
};

std::string IdOf(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.id();
  }
  return "accepted";
}

TEST_F(Merge, GivesTheNumbersOfOneRun) {
  const Report whole = Part(1, 1);
  for (const uint64_t n_parts : {2u, 3u, 20u}) {
    const Report merged = MergeParts(Parts(n_parts));
    EXPECT_EQ(merged.predictions.nll, whole.predictions.nll);
    EXPECT_EQ(merged.predictions.top1, whole.predictions.top1);
    EXPECT_EQ(merged.windows, 20u);
    EXPECT_EQ(merged.parts, 1u);
    EXPECT_EQ(merged.tokens, whole.tokens);
    EXPECT_EQ(merged.perplexity.value, whole.perplexity.value);
    EXPECT_EQ(merged.perplexity.standard_error, whole.perplexity.standard_error);
    EXPECT_EQ(merged.series.place, whole.series.place);
    EXPECT_EQ(merged.series.kld, whole.series.kld);
    const Divergence &a = *merged.divergence, &b = *whole.divergence;
    EXPECT_EQ(a.kld.mean.standard_error, b.kld.mean.standard_error);
    EXPECT_EQ(a.kld.percentiles[7].estimate.value, b.kld.percentiles[7].estimate.value);
    EXPECT_EQ(a.flips.value, b.flips.value);
    EXPECT_EQ(a.reference.fingerprint, b.reference.fingerprint);
    EXPECT_EQ(a.reference.name, b.reference.name);
  }
}

TEST_F(Merge, EveryPartMustBeThereOnce) {
  std::vector<ReportPart> parts = Parts(3);
  EXPECT_EQ(IdOf([&] { MergeParts(std::span(parts).first(2)); }), "merge.parts");
  EXPECT_EQ(IdOf([&] { MergeParts(std::span(parts).last(2)); }), "merge.parts");
  parts.push_back(parts[1]);
  EXPECT_EQ(IdOf([&] { MergeParts(parts); }), "merge.parts");
  parts = Parts(2);
  Report& short_of_one = parts[0].report;  // The last window was not measured.
  short_of_one.series.place.pop_back();
  short_of_one.windows -= 1;
  short_of_one.tokens = short_of_one.windows * 24;
  for (std::vector<double>* values :
       {&short_of_one.predictions.nll, &short_of_one.predictions.reference_nll,
        &short_of_one.predictions.kld}) {
    values->resize(short_of_one.tokens);
  }
  short_of_one.predictions.top1.resize(short_of_one.tokens);
  EXPECT_EQ(IdOf([&] { MergeParts(parts); }), "merge.parts");
  parts = Parts(2);
  parts[0].report.predictions = {};
  EXPECT_EQ(IdOf([&] { MergeParts(parts); }), "merge.parts");
}

TEST_F(Merge, TheOnlyPartIsTheWhole) {
  const Report merged = MergeParts(Parts(1));
  EXPECT_EQ(merged.perplexity.value, Part(1, 1).perplexity.value);
}

TEST_F(Merge, PartsOfDifferentMeasurementsAreRefused) {
  const auto with = [&](const std::function<void(Report&)>& change) {
    std::vector<ReportPart> parts = Parts(2);
    change(parts[1].report);
    return IdOf([&] { MergeParts(parts); });
  };
  EXPECT_EQ(with([](Report&) {}), "accepted");
  EXPECT_EQ(with([](Report& r) { r.text_xxh3 ^= 1; }), "merge.differs");
  EXPECT_EQ(with([](Report& r) { r.model_fingerprint ^= 1; }), "merge.differs");
  EXPECT_EQ(with([](Report& r) { r.protocol = Protocol::kPapers; }), "merge.differs");
  EXPECT_EQ(with([](Report& r) { r.compute = Compute::kBF16; }), "merge.differs");
  EXPECT_EQ(with([](Report& r) { r.context = 51; }), "merge.differs");
  EXPECT_EQ(with([](Report& r) { r.divergence.reset(); }), "merge.differs");
  EXPECT_EQ(with([](Report& r) { r.text_windows = 21; }), "merge.differs");
  EXPECT_EQ(with([](Report& r) { r.tokens /= 2; }), "merge.differs");
  EXPECT_EQ(with([](Report& r) { r.divergence->reference.fingerprint = 0; }), "merge.differs");
}

TEST(Parts, TakeEveryNthWindow) {
  const SyntheticStore store({});
  PerplexityOptions options;
  options.context = 4;
  options.parts = 2;
  options.part = 2;
  // Tokens: 1 a b c | d e f g | h i j k: the second part is the window in the middle.
  const TextWindows w = CutText(store, "abcdefghijk", options);
  const auto id = [](char c) { return 3 + int32_t{c}; };
  EXPECT_EQ(w.n_windows, 1u);
  EXPECT_EQ(w.text_windows, 3u);
  EXPECT_EQ(w.places, (std::vector<uint64_t>{1}));
  EXPECT_EQ(w.inputs, (std::vector<int32_t>{1, id('e'), id('f'), id('g')}));
  EXPECT_EQ(w.targets, (std::vector<int32_t>{id('g')}));
  options.parts = options.part = 4;
  EXPECT_EQ(IdOf([&] { CutText(store, "abcdefghijk", options); }), "perplexity.part");
}

class BaselineTest : public testing::Test {
 protected:
  PerplexityOptions Options() const {
    PerplexityOptions options;
    options.context = 50;
    options.baseline_name = "old.json";
    return options;
  }
  SyntheticStore base_{{}}, model_{{.matrix_type = DType::kQ8_0}};
  std::string text_ = SyntheticText(1000);  // 20 windows
};

TEST_F(BaselineTest, IsPairedWindowByWindowLikeAReference) {
  const Report old = Perplexity(base_, text_, Options());
  PerplexityOptions options = Options();
  options.baseline = &old;
  const Report report = Perplexity(model_, text_, options);
  const Report reference = PerplexityAgainst(model_, base_, text_, Options());
  ASSERT_TRUE(report.baseline.has_value());
  EXPECT_EQ(report.baseline->report_name, "old.json");
  EXPECT_NEAR(report.baseline->perplexity.value, old.perplexity.value, 1e-9);
  const Estimate& ratio = report.baseline->ln_perplexity_ratio;
  EXPECT_NEAR(ratio.value, reference.divergence->ln_perplexity_ratio.value, 1e-12);
  EXPECT_NEAR(ratio.standard_error, reference.divergence->ln_perplexity_ratio.standard_error,
              1e-12);
}

TEST_F(BaselineTest, OnlyCommonWindowsAreEvaluated) {
  PerplexityOptions options = Options();
  options.chunks = 7;
  const Report old = Perplexity(base_, text_, options);
  options = Options();
  options.baseline = &old;
  const Report report = Perplexity(model_, text_, options);
  EXPECT_EQ(report.windows, 7u);
  EXPECT_EQ(report.text_windows, 20u);
}

TEST_F(BaselineTest, OfSomethingElseIsRefused) {
  const Report old = Perplexity(base_, text_, Options());
  const auto with = [&](const std::function<void(Report&, PerplexityOptions&)>& change) {
    Report changed = old;
    PerplexityOptions options = Options();
    options.baseline = &changed;
    change(changed, options);
    return IdOf([&] { Perplexity(model_, text_, options); });
  };
  EXPECT_EQ(with([](Report&, PerplexityOptions&) {}), "accepted");
  EXPECT_EQ(with([](Report& r, PerplexityOptions&) { r.text_xxh3 ^= 1; }), "baseline.differs");
  EXPECT_EQ(with([](Report&, PerplexityOptions& o) { o.context = 60; }), "baseline.differs");
  EXPECT_EQ(with([](Report&, PerplexityOptions& o) { o.protocol = Protocol::kPapers; }),
            "baseline.differs");
  EXPECT_EQ(with([](Report& r, PerplexityOptions&) { r.compute = Compute::kBF16; }),
            "baseline.differs");
  EXPECT_EQ(with([](Report& r, PerplexityOptions&) { r.series.place = {30}; }), "baseline.differs");
}

}  // namespace
}  // namespace quern
