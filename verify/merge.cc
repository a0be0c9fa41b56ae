#include "verify/merge.h"

#include <algorithm>
#include <string_view>

#include "formats/core/error.h"
#include "formats/core/hash.h"
#include "verify/divergence.h"

namespace quern {
namespace {

std::string ReferenceOf(const Report& report) {
  return report.divergence ? HexOf(report.divergence->reference.fingerprint) : "none";
}

void CheckSameMeasurement(const ReportPart& first, const ReportPart& other) {
  const auto require_same = [&](std::string_view what, const std::string& found,
                                const std::string& expected) {
    if (found == expected) return;
    throw DataError("merge.differs", "two parts did not measure the same")
        .File(other.file)
        .Where(what)
        .Found(Quoted(found))
        .Expected(Quoted(expected) + ", as in " + Quoted(first.file))
        .Hint("make all parts with the same models, text and flags");
  };
  const Report &a = first.report, &b = other.report;
  require_same("model", HexOf(b.model_fingerprint), HexOf(a.model_fingerprint));
  require_same("reference", ReferenceOf(b), ReferenceOf(a));
  require_same("text", HexOf(b.text_xxh3), HexOf(a.text_xxh3));
  require_same("protocol", std::string(NameOf(b.protocol)), std::string(NameOf(a.protocol)));
  require_same("context", std::to_string(b.context), std::to_string(a.context));
  require_same("compute", std::string(NameOf(b.compute)), std::string(NameOf(a.compute)));
  require_same("text windows", std::to_string(b.text_windows), std::to_string(a.text_windows));
  require_same("predictions per window", std::to_string(b.tokens / b.windows),
               std::to_string(a.tokens / a.windows));
  require_same("number of parts", std::to_string(b.parts), std::to_string(a.parts));
}

// Returns the parts in order.
std::vector<const ReportPart*> Ordered(std::span<const ReportPart> parts) {
  const uint64_t n_parts = parts.front().report.parts;
  std::vector<const ReportPart*> ordered;
  for (const ReportPart& part : parts) {
    CheckSameMeasurement(parts.front(), part);
    ordered.push_back(&part);
  }
  std::ranges::stable_sort(ordered, {}, [](const ReportPart* part) { return part->report.part; });
  for (size_t i = 0; i < ordered.size(); ++i) {
    const ReportPart& part = *ordered[i];
    if (part.report.part != i + 1) {
      throw DataError("merge.parts",
                      part.report.part <= i ? "a part is there twice" : "a part is missing")
          .File(part.file)
          .Found("part " + std::to_string(part.report.part) + "/" + std::to_string(n_parts))
          .Expected("part " + std::to_string(i + 1) + "/" + std::to_string(n_parts))
          .Hint("give the report of every part once");
    }
    if (part.report.predictions.nll.empty()) {
      throw DataError("merge.parts", "the report has no single predictions")
          .File(part.file)
          .Expected("a report of quern perplexity --part k/n --json=FILE");
    }
  }
  if (ordered.size() != n_parts) {
    throw DataError("merge.parts", "a part is missing")
        .File(ordered.back()->file)
        .Found(std::to_string(ordered.size()) + " parts")
        .Expected(std::to_string(n_parts))
        .Hint("give the report of every part once");
  }
  return ordered;
}

template <typename T>
void AppendWindow(const std::vector<T>& from, uint64_t window, uint64_t per_window,
                  std::vector<T>& to) {
  if (from.empty()) return;  // A report without a reference.
  const auto begin = from.begin() + static_cast<ptrdiff_t>(window * per_window);
  to.insert(to.end(), begin, begin + static_cast<ptrdiff_t>(per_window));
}

}  // namespace

Report MergeParts(std::span<const ReportPart> parts) {
  const std::vector<const ReportPart*> ordered = Ordered(parts);
  struct Window {
    uint64_t place;
    const ReportPart* part;
    uint64_t index;  // in its report
  };
  std::vector<Window> windows;
  Report whole = ordered.front()->report;
  whole.seconds = 0;
  for (const ReportPart* part : ordered) {
    const std::vector<uint64_t>& places = part->report.series.place;
    for (uint64_t i = 0; i < places.size(); ++i) windows.push_back({places[i], part, i});
    whole.seconds += part->report.seconds;
  }
  std::ranges::sort(windows, {}, &Window::place);

  Predictions all;
  std::vector<uint64_t> places;
  for (size_t i = 0; i < windows.size(); ++i) {
    const Window& window = windows[i];
    if (window.place != i) {
      throw DataError("merge.parts", "the parts do not make up the text")
          .File(window.part->file)
          .Found("window " + std::to_string(window.place + 1))
          .Expected("window " + std::to_string(i + 1))
          .Hint("measure every part to its end, without gates");
    }
    places.push_back(window.place);
    const Predictions& from = window.part->report.predictions;
    const uint64_t per_window = from.nll.size() / window.part->report.series.size();
    AppendWindow(from.nll, window.index, per_window, all.nll);
    AppendWindow(from.reference_nll, window.index, per_window, all.reference_nll);
    AppendWindow(from.kld, window.index, per_window, all.kld);
    AppendWindow(from.top1, window.index, per_window, all.top1);
  }
  if (windows.size() != whole.text_windows) {
    throw DataError("merge.parts", "the parts do not make up the text")
        .File(ordered.back()->file)
        .Found(std::to_string(windows.size()) + " windows in all parts")
        .Expected(std::to_string(whole.text_windows))
        .Hint("measure every part to its end, without gates");
  }
  whole.part = whole.parts = 1;
  whole.predictions = std::move(all);
  Summarize(places, whole.divergence ? whole.divergence->reference : ReferenceInfo(), whole);
  return whole;
}

}  // namespace quern
