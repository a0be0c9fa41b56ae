#include "tools/report_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "formats/core/error.h"
#include "tools/report_format.h"
#include "tools/table.h"
#include "tools/terminal.h"
#include "verify/gates.h"

namespace quern {
namespace {

// Returns the estimate at `percent`, which is one of kPercents.
Estimate At(const Distribution& distribution, double percent) {
  const auto found = std::ranges::find(distribution.percentiles, percent, &Percentile::percent);
  return found == distribution.percentiles.end() ? Estimate{} : found->estimate;
}

std::string DivergenceText(const Divergence& divergence) {
  std::string out;
  out += fmt::format("reference   {}  {}\n", PlusMinus(divergence.reference_perplexity, 4),
                     Escaped(divergence.reference.name));
  out += fmt::format("ln ratio    {}\n", PlusMinus(divergence.ln_perplexity_ratio, 6));
  out += fmt::format("mean KLD    {} nats\n", PlusMinus(divergence.kld.mean, 6));
  out += fmt::format("KLD         median {}, 99 % {}, maximum {:.6f} nats\n",
                     PlusMinus(At(divergence.kld, 50), 6), PlusMinus(At(divergence.kld, 99), 6),
                     divergence.kld.maximum);
  out += fmt::format("delta p     mean {} %, RMS {} %\n",
                     PlusMinus(InPercent(divergence.delta_p.mean), 3),
                     PlusMinus(InPercent(divergence.rms_delta_p), 3));
  out += fmt::format("same top-1  {} %\n", PlusMinus(InPercent(divergence.top1_agreement), 3));
  out += fmt::format("flips       {} % ({:.3f} % lost, {:.3f} % gained)\n",
                     PlusMinus(InPercent(divergence.flips), 3), 100 * divergence.lost.value,
                     100 * divergence.gained.value);
  return out;
}

std::string ProtocolText(const Report& report) {
  std::string windows = fmt::format("{}", report.windows);
  if (report.windows != report.text_windows) windows += fmt::format(" of {}", report.text_windows);
  const std::string part =
      report.parts > 1 ? fmt::format(" (part {}/{})", report.part, report.parts) : "";
  return fmt::format("protocol    {}, {} windows{} of {}, {} predictions, {}, {:.1f} s\n",
                     NameOf(report.protocol), windows, part, report.context, report.tokens,
                     NameOf(report.compute), report.seconds);
}

std::string BaselineText(const BaselineComparison& baseline) {
  return fmt::format("baseline    {}  {} in {}, ln ratio {}\n", PlusMinus(baseline.perplexity, 4),
                     Escaped(baseline.model_name), Escaped(baseline.report_name),
                     PlusMinus(baseline.ln_perplexity_ratio, 6));
}

std::string PerTensorText(const PerTensorReport& report) {
  if (report.effects.empty()) return "per tensor  no tensor differs from the reference's\n";
  Table table({{"tensor"},
               {"types"},
               {"size", Align::kRight},
               {"mean KLD of it alone", Align::kRight},
               {"ln ratio", Align::kRight}});
  for (const TensorEffect& effect : report.effects) {
    table.AddRow({Escaped(effect.name),
                  fmt::format("{} {}", NameOf(effect.reference_type), NameOf(effect.model_type)),
                  HumanBytes(effect.model_bytes), PlusMinus(effect.mean_kld, 6),
                  PlusMinus(effect.ln_perplexity_ratio, 6)});
  }
  return fmt::format("per tensor  over {}\n", Counted(report.windows, "window")) + table.ToString();
}

std::string OneText(const Report& report) {
  std::string out = fmt::format("perplexity  {}\n", PlusMinus(report.perplexity, 4));
  if (report.divergence) out += DivergenceText(*report.divergence);
  if (report.baseline) out += BaselineText(*report.baseline);
  out += ProtocolText(report);
  if (report.per_tensor) out += PerTensorText(*report.per_tensor);
  return out;
}

std::string TableText(std::span<const Report> reports) {
  const bool divergence = reports.front().divergence.has_value();
  const bool baseline = reports.front().baseline.has_value();
  std::vector<Column> columns = {{"model"},
                                 {"size", Align::kRight},
                                 {"bits/weight", Align::kRight},
                                 {"perplexity", Align::kRight}};
  if (baseline) columns.push_back({"ln ratio to baseline", Align::kRight});
  if (divergence) {
    for (const char* title :
         {"ln ratio", "mean KLD", "99 % KLD", "RMS delta p %", "same top-1 %"}) {
      columns.push_back({title, Align::kRight});
    }
  }
  Table table(std::move(columns));
  for (const Report& report : reports) {
    std::vector<std::string> cells = {
        Escaped(report.model_name), HumanBytes(report.model_bytes),
        fmt::format("{:.3f}", 8 * static_cast<double>(report.model_bytes) /
                                  static_cast<double>(report.model_weights)),
        PlusMinus(report.perplexity, 4)};
    if (baseline) cells.push_back(PlusMinus(report.baseline->ln_perplexity_ratio, 6));
    if (divergence) {
      const Divergence& d = *report.divergence;
      cells.push_back(PlusMinus(d.ln_perplexity_ratio, 6));
      cells.push_back(PlusMinus(d.kld.mean, 6));
      cells.push_back(fmt::format("{:.6f}", At(d.kld, 99).value));
      cells.push_back(PlusMinus(InPercent(d.rms_delta_p), 3));
      cells.push_back(PlusMinus(InPercent(d.top1_agreement), 3));
    }
    table.AddRow(cells);
  }
  std::string out = table.ToString();
  if (divergence) {
    const Divergence& d = *reports.front().divergence;
    out += fmt::format("reference   {}  {}\n", PlusMinus(d.reference_perplexity, 4),
                       Escaped(d.reference.name));
  }
  return out + ProtocolText(reports.front());
}

}  // namespace

std::string ReportsToText(std::span<const Report> reports) {
  std::string out = reports.size() == 1 ? OneText(reports[0]) : TableText(reports);
  for (const Report& report : reports) {
    if (!report.verdict) continue;
    const std::string who = reports.size() == 1 ? "" : Escaped(report.model_name) + ": ";
    for (const GateResult& result : report.verdict->gates) {
      out += fmt::format("{}: {}--{}: {}\n", NameOf(result.decision), who,
                         AllGates()[static_cast<size_t>(result.gate.kind)].name, result.reason);
    }
  }
  return out;
}

int ExitCodeOf(std::span<const Report> reports) {
  bool undecided = false;
  for (const Report& report : reports) {
    if (!report.verdict) continue;
    if (report.verdict->decision == Decision::kFailed) return 1;
    undecided |= report.verdict->decision == Decision::kUndecided;
  }
  return undecided ? static_cast<int>(ErrorCode::kUndecided) : 0;
}

}  // namespace quern
