#include "tools/report_json.h"

#include <gtest/gtest.h>

#include <cmath>

#include "formats/core/error.h"
#include "verify/divergence.h"

namespace quern {
namespace {

// A part with a reference, of two windows with two predictions each.
Report SmallReport() {
  Report report;
  report.model_name = "a \"model\".gguf";
  report.model_bytes = 1234;
  report.model_weights = 5678;
  report.model_fingerprint = 0xfedcba9876543210;
  report.protocol = Protocol::kPapers;
  report.compute = Compute::kBF16;
  report.context = 64;
  report.text_windows = 4;
  report.part = 2;
  report.parts = 2;
  report.text_bytes = 1000;
  report.text_xxh3 = 42;
  report.text_tokens = 300;
  report.seconds = 1.5;
  report.predictions = {.nll = {1.1, 2.2, 1 / 3.0, 4},
                        .reference_nll = {1, 2, 3, 0.1},
                        .kld = {0.01, 1e-300, 0, 0.3},
                        .top1 = {0, 7, 3, 1}};
  const std::vector<uint64_t> places = {1, 3};
  Summarize(places, {"base", 7, true}, report);
  return report;
}

TEST(ReportJson, ReadsBackWhatItWrote) {
  const Report report = SmallReport();
  const std::string json = ReportsToJson({&report, 1});
  const std::vector<Report> all = ReportsFromJson(json, "r.json");
  ASSERT_EQ(all.size(), 1u);
  Report read = all[0];
  EXPECT_EQ(read.predictions.nll, report.predictions.nll);
  EXPECT_EQ(read.predictions.kld, report.predictions.kld);
  EXPECT_EQ(read.predictions.top1, report.predictions.top1);
  EXPECT_EQ(read.series.place, report.series.place);
  EXPECT_EQ(read.series.delta_p, report.series.delta_p);
  // What is computed from them comes out the same, and so does everything.
  Summarize(read.series.place, ReferenceInfo(read.divergence->reference), read);
  EXPECT_EQ(ReportsToJson({&read, 1}), json);
}

TEST(ReportJson, SeveralReportsAreOneDocument) {
  const std::vector<Report> two = {SmallReport(), SmallReport()};
  const std::string json = ReportsToJson(two);
  EXPECT_NE(json.find("quern.perplexities/1"), std::string::npos);
  EXPECT_EQ(ReportsFromJson(json, "r.json").size(), 2u);
}

TEST(ReportJson, PredictionsAreThoseOfPartsOnly) {
  Report report = SmallReport();
  report.part = report.parts = 1;
  const std::string json = ReportsToJson({&report, 1});
  EXPECT_EQ(json.find("\"predictions\""), std::string::npos);
  EXPECT_TRUE(ReportsFromJson(json, "r.json")[0].predictions.nll.empty());
}

TEST(ReportJson, AnUnknownErrorIsNull) {
  Report report = SmallReport();
  report.predictions = {.nll = {1, 2}, .reference_nll = {}, .kld = {}, .top1 = {}};
  report.divergence.reset();
  const std::vector<uint64_t> places = {3};
  report.predictions.reference_nll = {1, 3};
  report.predictions.kld = {0, 0.1};
  report.predictions.top1 = {1, 1};
  Summarize(places, {"base", 7, false}, report);
  EXPECT_TRUE(std::isnan(report.divergence->kld.mean.standard_error));
  const std::string json = ReportsToJson({&report, 1});
  EXPECT_NE(json.find("\"stderr\": null"), std::string::npos);
  EXPECT_EQ(json.find("nan"), std::string::npos);
}

TEST(ReportJson, RefusesWhatContradictsItself) {
  const Report report = SmallReport();
  const std::string json = ReportsToJson({&report, 1});
  const auto with = [&](std::string_view from, std::string_view to) -> std::string {
    std::string changed = json;
    const size_t at = changed.find(from);
    if (at == std::string::npos) return "no such text";
    changed.replace(at, from.size(), to);
    try {
      ReportsFromJson(changed, "r.json");
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("r.json"), std::string::npos) << error.what();
      return error.id();
    }
    return "accepted";
  };
  EXPECT_EQ(with("\"seconds\": 1.5", "\"seconds\": 2.5"), "accepted");
  EXPECT_EQ(with("quern.perplexity/1", "quern.perplexity/9"), "report.schema");
  EXPECT_EQ(with("\"windows\": 2", "\"windows\": 3"), "config.value");
  EXPECT_EQ(with("\"tokens\": 4", "\"tokens\": 0"), "config.value");
  EXPECT_EQ(with("\"part\": 2", "\"part\": 3"), "config.value");
  EXPECT_EQ(with("\"place\": [1,3]", "\"place\": [3,1]"), "config.value");
  EXPECT_EQ(with("\"place\": [1,3]", "\"place\": [1,4]"), "config.value");
  EXPECT_EQ(with("\"top1\": [0,7,3,1]", "\"top1\": [0,7,3,8]"), "config.value");
  EXPECT_EQ(with("\"top1\": [0,7,3,1]", "\"top1\": [0,7,3]"), "config.value");
  EXPECT_EQ(with("\"protocol\": \"papers\"", "\"protocol\": \"mine\""), "config.value");
  EXPECT_EQ(with("fedcba9876543210", "fedcba987654321g"), "config.value");
  EXPECT_EQ(with("\"nll_nats\"", "\"nll\""), "config.value");
  EXPECT_EQ(with("\"nll_nats\": [1.1,", "\"nll_nats\": [-900,"), "config.value");
  EXPECT_EQ(with("\"nll_nats\": [1.1,", "\"nll_nats\": [1e300,"), "config.value");
  EXPECT_EQ(with("{", "["), "json.syntax");
}

}  // namespace
}  // namespace quern
