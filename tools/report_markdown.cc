#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tools/markup.h"
#include "tools/report_files.h"
#include "tools/report_format.h"
#include "tools/terminal.h"
#include "verify/gates.h"

namespace quern {
namespace {

// Job summaries are for a glance: the whole list is in the JSON and HTML reports.
constexpr size_t kMaxTensors = 20;

std::string Percent(const Estimate& fraction) { return PlusMinus(InPercent(fraction), 3); }

// Returns the word for all models together.
std::string Decided(std::span<const Report> reports) {
  bool any = false, undecided = false;
  for (const Report& report : reports) {
    if (!report.verdict) continue;
    any = true;
    if (report.verdict->decision == Decision::kFailed) return ": failed";
    undecided |= report.verdict->decision == Decision::kUndecided;
  }
  if (!any) return "";
  return undecided ? ": not decided" : ": passed";
}

void AppendModels(std::span<const Report> reports, std::string& out) {
  const bool divergence = reports[0].divergence.has_value();
  const bool baseline = reports[0].baseline.has_value();
  out += "| model | size | bits/weight | perplexity |";
  if (baseline) out += " ln ratio to baseline |";
  if (divergence) out += " ln ratio | mean KLD | same top-1 % |";
  out += "\n|---|---:|---:|---:|";
  if (baseline) out += "---:|";
  if (divergence) out += "---:|---:|---:|";
  out += '\n';
  for (const Report& report : reports) {
    const double weights = std::max(1.0, static_cast<double>(report.model_weights));
    out += fmt::format("| {} | {} | {:.3f} | {} |", MarkdownEscaped(report.model_name),
                       HumanBytes(report.model_bytes),
                       8 * static_cast<double>(report.model_bytes) / weights,
                       PlusMinus(report.perplexity, 4));
    if (baseline) out += fmt::format(" {} |", PlusMinus(report.baseline->ln_perplexity_ratio, 6));
    if (divergence) {
      const Divergence& d = *report.divergence;
      out += fmt::format(" {} | {} | {} |", PlusMinus(d.ln_perplexity_ratio, 6),
                         PlusMinus(d.kld.mean, 6), Percent(d.top1_agreement));
    }
    out += '\n';
  }
}

void AppendTensors(const Report& report, std::string& out) {
  if (!report.per_tensor) return;
  const std::vector<TensorEffect>& effects = report.per_tensor->effects;
  if (effects.empty()) {
    out += fmt::format("\nNo tensor of {} differs from the reference's.\n",
                       MarkdownEscaped(report.model_name));
    return;
  }
  out += fmt::format("\nTensors of {} that do most damage alone, over {}:\n\n",
                     MarkdownEscaped(report.model_name),
                     Counted(report.per_tensor->windows, "window"));
  out += "| tensor | types | size | mean KLD of it alone | ln ratio |\n|---|---|---:|---:|---:|\n";
  const size_t n = std::min(effects.size(), kMaxTensors);
  for (const TensorEffect& effect : std::span(effects).first(n)) {
    out += fmt::format("| {} | {} {} | {} | {} | {} |\n", MarkdownEscaped(effect.name),
                       NameOf(effect.reference_type), NameOf(effect.model_type),
                       HumanBytes(effect.model_bytes), PlusMinus(effect.mean_kld, 6),
                       PlusMinus(effect.ln_perplexity_ratio, 6));
  }
}

}  // namespace

std::string ReportsToMarkdown(std::span<const Report> reports) {
  std::string out = fmt::format("### quern perplexity{}\n\n", Decided(reports));
  if (reports.empty()) return out;
  AppendModels(reports, out);
  out += '\n';
  for (const Report& report : reports) {
    if (!report.verdict) continue;
    for (const GateResult& result : report.verdict->gates) {
      out += fmt::format("- **{}**: {}: \\-\\-{}: {}\n", NameOf(result.decision),
                         MarkdownEscaped(report.model_name),
                         AllGates()[static_cast<size_t>(result.gate.kind)].name,
                         MarkdownEscaped(result.reason, 1000));
    }
  }
  const Report& first = reports[0];
  if (first.divergence) {
    out += fmt::format("- reference: {}, perplexity {}\n",
                       MarkdownEscaped(first.divergence->reference.name),
                       PlusMinus(first.divergence->reference_perplexity, 4));
  }
  out += fmt::format("- protocol {}, {} of {} windows of {}, {} predictions, {}, {:.1f} s\n",
                     NameOf(first.protocol), first.windows, first.text_windows, first.context,
                     first.tokens, NameOf(first.compute), first.seconds);
  for (const Report& report : reports) AppendTensors(report, out);
  return out;
}

}  // namespace quern
