#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "formats/core/hash.h"
#include "tools/markup.h"
#include "tools/report_files.h"
#include "tools/report_format.h"
#include "tools/svg_plot.h"
#include "tools/terminal.h"
#include "verify/gates.h"
#include "verify/statistics.h"

namespace quern {
namespace {

constexpr size_t kMaxBars = 60;
constexpr uint64_t kCurvePoints = 200;

// Colours that are told apart in both themes and by the colour-blind (Okabe and Ito's).
constexpr std::string_view kStyle = R"css(
:root { color-scheme: light dark; --back: #ffffff; --fore: #1b1f24; --soft: #6a737d; --grid: #e2e6ea;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #cc79a7; --c4: #b8860b; --c5: #56b4e9; --c6: #7a5195; --c7: #8c564b; }
@media (prefers-color-scheme: dark) { :root { --back: #15181c; --fore: #e6e9ec; --soft: #9aa4ae; --grid: #2c3238;
  --c0: #4aa8e0; --c1: #ff8a4c; --c2: #35c998; --c3: #e6a0c8; --c4: #e6b84a; --c5: #8fd0f5; --c6: #b394d6; --c7: #c99a8c; } }
body { background: var(--back); color: var(--fore); font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid var(--grid); text-align: right; overflow-wrap: normal; }
th:first-child, td:first-child { text-align: left; } td { white-space: nowrap; vertical-align: top; } td small { color: var(--soft); }
td:first-child { white-space: normal; min-width: 9rem; max-width: 20rem; overflow-wrap: anywhere; }
.gates td small { display: block; white-space: normal; min-width: 12rem; max-width: 18rem; margin-left: auto; }
.passed { color: var(--c2); } .failed { color: var(--c1); } .undecided { color: var(--c4); }
.passed, .failed, .undecided { font-weight: 600; }
svg { width: 100%; min-width: 38rem; height: auto; margin: 0.5rem 0; }
.dash-1 { stroke-dasharray: 7 3; } .dash-2 { stroke-dasharray: 2 3; }
svg text { fill: var(--fore); font: 12px system-ui, sans-serif; }
svg .title { font-weight: 600; font-size: 13px; } svg .tick { fill: var(--soft); font-size: 11px; }
svg .grid { stroke: var(--grid); } svg .axis { stroke: var(--soft); }
svg .line { fill: none; stroke: var(--c); stroke-width: 1.6; } svg .mark, svg .bar { fill: var(--c); }
svg .error { stroke: var(--c); }
.series-0 { --c: var(--c0); } .series-1 { --c: var(--c1); } .series-2 { --c: var(--c2); } .series-3 { --c: var(--c3); }
.series-4 { --c: var(--c4); } .series-5 { --c: var(--c5); } .series-6 { --c: var(--c6); } .series-7 { --c: var(--c7); }
.verdict { font-size: 1.1rem; }
footer { color: var(--soft); font-size: 0.85rem; margin-top: 2rem; }
)css";

// The same in a cell, the error on a line of its own.
std::string Cell(const Estimate& estimate, int digits) {
  const std::string text = PlusMinus(estimate, digits);
  const size_t space = text.find(' ');
  return text.substr(0, space) + "<br/><small>" + text.substr(space + 1) + "</small>";
}

std::string PercentCell(const Estimate& fraction) { return Cell(InPercent(fraction), 3); }

double MebibytesOf(const Report& report) {
  return static_cast<double>(report.model_bytes) / double(1 << 20);
}

// Cells must be safe already.
void AppendRow(std::string_view tag, const std::vector<std::string>& cells, std::string& out) {
  out += "<tr>";
  for (const std::string& cell : cells) out += fmt::format("<{0}>{1}</{0}>", tag, cell);
  out += "</tr>\n";
}

std::string DecisionSpan(Decision decision) {
  return fmt::format("<span class=\"{}\">{}</span>",
                     decision == Decision::kUndecided ? "undecided" : NameOf(decision),
                     NameOf(decision));
}

// Returns the verdict on all models that were judged: failed if one is, else not decided if one is.
std::optional<Decision> DecisionOfAll(std::span<const Report> reports) {
  std::optional<Decision> all;
  for (const Report& report : reports) {
    if (!report.verdict) continue;
    const Decision decision = report.verdict->decision;
    if (decision == Decision::kFailed) return decision;
    if (!all || decision == Decision::kUndecided) all = decision;
  }
  return all;
}

// A row per model, a column per gate.
void AppendGates(std::span<const Report> reports, std::string& out) {
  const std::optional<Decision> all = DecisionOfAll(reports);
  if (!all) return;
  out += fmt::format("<p class=\"verdict\">Verdict: {}</p>\n", DecisionSpan(*all));
  out += "<div class=\"wide\"><table class=\"gates\">\n";
  std::vector<std::string> cells = {"model"};
  const auto judged =
      std::ranges::find_if(reports, [](const Report& r) { return bool(r.verdict); });
  for (const GateResult& result : judged->verdict->gates) {
    cells.push_back(fmt::format("--{} {}", AllGates()[static_cast<size_t>(result.gate.kind)].name,
                                result.gate.limit));
  }
  AppendRow("th", cells, out);
  for (const Report& report : reports) {
    if (!report.verdict) continue;
    cells = {XmlEscaped(report.model_name)};
    for (const GateResult& result : report.verdict->gates) {
      cells.push_back(fmt::format("{}<small>{}</small>", DecisionSpan(result.decision),
                                  XmlEscaped(result.reason, 1000)));
    }
    AppendRow("td", cells, out);
  }
  out += "</table></div>\n";
}

// What the page is about, in one line.
std::string Subject(std::span<const Report> reports) {
  std::string subject =
      reports.size() == 1 ? reports[0].model_name : Counted(reports.size(), "model");
  if (reports[0].divergence) subject += " beside " + reports[0].divergence->reference.name;
  return subject;
}

std::string Drawn(const std::string& svg) { return "<div class=\"wide\">" + svg + "</div>\n"; }

void AppendModels(std::span<const Report> reports, std::string& out) {
  const bool divergence = reports[0].divergence.has_value();
  const bool baseline = reports[0].baseline.has_value();
  out += "<h2>Models</h2>\n<div class=\"wide\"><table>\n";
  std::vector<std::string> cells = {"model", "size", "bits/weight", "perplexity"};
  if (baseline) cells.push_back("ln ratio to baseline");
  if (divergence) {
    cells.insert(cells.end(), {"ln ratio", "mean KLD, nats", "maximum KLD", "RMS Δp %",
                               "same top-1 %", "flips %"});
  }
  AppendRow("th", cells, out);
  for (const Report& report : reports) {
    const double weights = std::max(1.0, static_cast<double>(report.model_weights));
    cells = {XmlEscaped(report.model_name), HumanBytes(report.model_bytes),
             fmt::format("{:.3f}", 8 * static_cast<double>(report.model_bytes) / weights),
             Cell(report.perplexity, 4)};
    if (baseline) cells.push_back(Cell(report.baseline->ln_perplexity_ratio, 6));
    if (divergence) {
      const Divergence& d = *report.divergence;
      cells.insert(cells.end(), {Cell(d.ln_perplexity_ratio, 6), Cell(d.kld.mean, 6),
                                 fmt::format("{:.6f}", d.kld.maximum), PercentCell(d.rms_delta_p),
                                 PercentCell(d.top1_agreement), PercentCell(d.flips)});
    }
    AppendRow("td", cells, out);
  }
  out += "</table></div>\n";
  if (divergence) {
    const Divergence& d = *reports[0].divergence;
    out += fmt::format("<p>Reference: {}, perplexity {}</p>\n", XmlEscaped(d.reference.name),
                       PlusMinus(d.reference_perplexity, 4));
  }
}

// The quantity that tells models apart, window by window.
const std::vector<double>& SeriesFor(const Report& report) {
  return report.divergence ? report.series.kld : report.series.nll;
}

Plot AlongTheText(std::span<const Report> reports) {
  const bool divergence = reports[0].divergence.has_value();
  Plot plot{.title = divergence ? "KL divergence along the text" : "Surprise along the text",
            .x_title = "window of the text",
            .y_title = divergence ? "mean KLD, nats" : "mean −ln p, nats"};
  plot.whole_x = true;
  // Models of very different quality share a logarithmic scale.
  plot.log_y = divergence && reports.size() > 1;
  for (const Report& report : reports) {
    PlotSeries series{.name = report.model_name, .points = {}, .joined = true};
    const std::vector<double>& values = SeriesFor(report);
    for (size_t i = 0; i < std::min(values.size(), report.series.place.size()); ++i) {
      series.points.push_back({.x = static_cast<double>(report.series.place[i] + 1),
                               .y = values[i],
                               .error = 0,
                               .label = ""});
    }
    plot.series.push_back(std::move(series));
  }
  return plot;
}

// The part of predictions up to each value; of a report read from a file, the percentiles it has.
Plot DistributionOf(std::span<const Report> reports) {
  Plot plot{.title = "Distribution of the KL divergence over predictions",
            .x_title = "KLD of a prediction, nats",
            .y_title = "% of predictions up to it",
            .log_x = true};
  for (const Report& report : reports) {
    PlotSeries series{.name = report.model_name, .points = {}, .joined = true};
    const auto add = [&](double value, double percent) {
      series.points.push_back({.x = value, .y = percent, .error = 0, .label = ""});
    };
    std::vector<double> sorted = report.predictions.kld;
    std::ranges::sort(sorted);
    if (!sorted.empty()) {
      for (uint64_t i = 0; i <= kCurvePoints; ++i) {
        const double part = static_cast<double>(i) / static_cast<double>(kCurvePoints);
        add(QuantileOf(sorted, part), 100 * part);
      }
    } else if (report.divergence) {
      for (const Percentile& p : report.divergence->kld.percentiles)
        add(p.estimate.value, p.percent);
    }
    plot.series.push_back(std::move(series));
  }
  return plot;
}

Plot SizeAgainstQuality(std::span<const Report> reports) {
  const bool divergence = reports[0].divergence.has_value();
  Plot plot{.title = "Size against quality",
            .x_title = "size, MiB",
            .y_title = divergence ? "mean KLD, nats" : "perplexity"};
  plot.log_y = divergence;
  PlotSeries series{.name = "models", .points = {}, .joined = false};
  for (const Report& report : reports) {
    const Estimate& y = divergence ? report.divergence->kld.mean : report.perplexity;
    series.points.push_back({.x = MebibytesOf(report),
                             .y = y.value,
                             .error = y.standard_error,
                             .label = report.model_name});
  }
  plot.series.push_back(std::move(series));
  return plot;
}

void AppendTensors(const Report& report, std::string& out) {
  if (!report.per_tensor) return;
  const std::vector<TensorEffect>& effects = report.per_tensor->effects;
  out += fmt::format("<h2>Tensors of {}</h2>\n", XmlEscaped(report.model_name));
  if (effects.empty()) {
    out += "<p>No tensor differs from the reference's.</p>\n";
    return;
  }
  out +=
      fmt::format("<p>The reference with one tensor at a time taken from the model, over {}.</p>\n",
                  Counted(report.per_tensor->windows, "window"));
  std::vector<Bar> bars;
  const size_t n = std::min(effects.size(), kMaxBars);
  for (const TensorEffect& effect : std::span(effects).first(n)) {
    bars.push_back({fmt::format("{} ({})", effect.name, NameOf(effect.model_type)),
                    effect.mean_kld.value, effect.mean_kld.standard_error});
  }
  out += Drawn(SvgOfBars("Mean KLD of each tensor alone, nats", bars));
  if (n < effects.size()) {
    out += fmt::format("<p>And {} more with less.</p>\n", effects.size() - n);
  }
}

}  // namespace

std::string ReportsToHtml(std::span<const Report> reports) {
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"generator\" content=\"quern\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>";
  const std::string subject = reports.empty() ? "no model" : XmlEscaped(Subject(reports), 400);
  out += subject + " – quern perplexity</title>\n<style>";
  out += kStyle;
  out += "</style>\n</head>\n<body>\n<h1>" + subject + "</h1>\n";
  if (reports.empty()) return out + "</body>\n</html>\n";
  out += fmt::format("<p>Perplexity over {} of a text of {} (XXH3 {})</p>\n",
                     Counted(reports[0].windows, "window"), HumanBytes(reports[0].text_bytes),
                     HexOf(reports[0].text_xxh3));
  AppendGates(reports, out);
  AppendModels(reports, out);
  out += "<h2>Plots</h2>\n";
  if (reports.size() > 1) out += Drawn(SvgOf(SizeAgainstQuality(reports)));
  out += Drawn(SvgOf(AlongTheText(reports)));
  if (reports[0].divergence) out += Drawn(SvgOf(DistributionOf(reports)));
  for (const Report& report : reports) AppendTensors(report, out);
  const Report& first = reports[0];
  out += fmt::format(
      "<footer>Protocol {}, {} of {} windows of {} tokens, {} predictions, {}, {:.1f} s. ± is one "
      "standard error.</footer>\n",
      NameOf(first.protocol), first.windows, first.text_windows, first.context, first.tokens,
      NameOf(first.compute), first.seconds);
  return out + "</body>\n</html>\n";
}

}  // namespace quern
