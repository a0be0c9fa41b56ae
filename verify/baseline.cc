#include "verify/baseline.h"

#include <algorithm>

#include "formats/core/check.h"
#include "formats/core/error.h"
#include "formats/core/hash.h"
#include "verify/statistics.h"

namespace quern {

namespace {

void CheckSameText(const Report& baseline, const std::string& name, const Report& report) {
  const auto require_same = [&](std::string_view what, const std::string& found,
                                const std::string& expected) {
    if (found == expected) return;
    throw DataError("baseline.differs", "the baseline measured something else")
        .File(name)
        .Where(what)
        .Found(Quoted(found))
        .Expected(Quoted(expected) + ", as in this run")
        .Hint("measure the baseline again with this text and these flags");
  };
  require_same("text", HexOf(baseline.text_xxh3), HexOf(report.text_xxh3));
  require_same("protocol", std::string(NameOf(baseline.protocol)),
               std::string(NameOf(report.protocol)));
  require_same("context", std::to_string(baseline.context), std::to_string(report.context));
  require_same("compute", std::string(NameOf(baseline.compute)),
               std::string(NameOf(report.compute)));
  require_same("number of tokens", std::to_string(baseline.text_tokens),
               std::to_string(report.text_tokens));
}

// `places` are in the baseline.
std::vector<double> NllAt(std::span<const uint64_t> places, const WindowSeries& series) {
  std::vector<double> nll;
  for (const uint64_t place : places) {
    const auto at = std::ranges::lower_bound(series.place, place);
    nll.push_back(series.nll[static_cast<size_t>(at - series.place.begin())]);
  }
  return nll;
}

}  // namespace

std::vector<double> AlignBaseline(const Report& baseline, const std::string& name,
                                  const Report& report, TextWindows& windows) {
  CheckSameText(baseline, name, report);
  KeepPlaces(baseline.series.place, windows);
  if (windows.n_windows == 0) {
    throw DataError("baseline.differs", "the baseline has none of the windows of this run")
        .File(name)
        .Found(std::to_string(baseline.series.size()) + " windows, all of them others")
        .Expected("windows that this run evaluates")
        .Hint("give both runs the same --part");
  }
  return NllAt(windows.places, baseline.series);
}

std::vector<double> BaselineNll(const Report& baseline, const std::string& name,
                                const Report& report) {
  CheckSameText(baseline, name, report);
  if (!std::ranges::includes(baseline.series.place, report.series.place)) {
    throw DataError("baseline.differs", "the baseline has not all of the windows")
        .File(name)
        .Found(std::to_string(baseline.series.size()) + " windows")
        .Expected("the " + std::to_string(report.series.size()) + " windows of this report")
        .Hint("measure the baseline on the whole text");
  }
  return NllAt(report.series.place, baseline.series);
}

BaselineComparison CompareWithBaseline(const Report& baseline, const std::string& name,
                                       std::span<const double> nll, const Report& report) {
  QUERN_CHECK(nll.size() == report.series.size());
  std::vector<double> ratios(nll.size());
  for (size_t i = 0; i < nll.size(); ++i) ratios[i] = report.series.nll[i] - nll[i];
  return {.report_name = name,
          .model_name = baseline.model_name,
          .perplexity = ExpOf(EstimateOverWindows(nll, 1)),
          .ln_perplexity_ratio = EstimateOverWindows(ratios, 1)};
}

}  // namespace quern
