#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tools/markup.h"
#include "tools/report_files.h"
#include "verify/gates.h"

namespace quern {
namespace {

struct Counts {
  size_t tests = 0, failures = 0, errors = 0;
};

Counts CountsOf(const Report& report) {
  Counts counts;
  if (!report.verdict) return {.tests = 1};
  for (const GateResult& result : report.verdict->gates) {
    ++counts.tests;
    counts.failures += result.decision == Decision::kFailed ? 1 : 0;
    counts.errors += result.decision == Decision::kUndecided ? 1 : 0;
  }
  return counts;
}

std::string Attributes(const Counts& counts, double seconds) {
  return fmt::format(R"(tests="{}" failures="{}" errors="{}" time="{:.3f}")",
                     counts.tests, counts.failures, counts.errors, seconds);
}

void AppendProperty(std::string_view name, const std::string& value, std::string& out) {
  out += fmt::format("      <property name=\"{}\" value=\"{}\"/>\n", name, XmlEscaped(value));
}

void AppendEstimate(std::string_view name, const Estimate& estimate, std::string& out) {
  AppendProperty(name, fmt::format("{}", estimate.value), out);
  if (std::isfinite(estimate.standard_error)) {
    AppendProperty(std::string(name) + "_stderr", fmt::format("{}", estimate.standard_error), out);
  }
}

void AppendProperties(const Report& report, std::string& out) {
  out += "    <properties>\n";
  AppendEstimate("perplexity", report.perplexity, out);
  if (report.divergence) {
    const Divergence& d = *report.divergence;
    AppendProperty("reference", d.reference.name, out);
    AppendEstimate("ln_perplexity_ratio", d.ln_perplexity_ratio, out);
    AppendEstimate("mean_kld_nats", d.kld.mean, out);
    AppendEstimate("top1_agreement", d.top1_agreement, out);
  }
  AppendProperty("protocol", std::string(NameOf(report.protocol)), out);
  AppendProperty("context", fmt::format("{}", report.context), out);
  AppendProperty("windows", fmt::format("{}", report.windows), out);
  AppendProperty("predictions", fmt::format("{}", report.tokens), out);
  AppendProperty("compute", std::string(NameOf(report.compute)), out);
  out += "    </properties>\n";
}

void AppendGate(const GateResult& result, std::string& out) {
  const std::string reason = XmlEscaped(result.reason, 1000);
  out += fmt::format("    <testcase classname=\"quern.perplexity\" name=\"--{} {}\" time=\"0\"",
                     AllGates()[static_cast<size_t>(result.gate.kind)].name, result.gate.limit);
  switch (result.decision) {
    case Decision::kPassed:
      out += fmt::format(">\n      <system-out>{}</system-out>\n    </testcase>\n", reason);
      return;
    case Decision::kFailed:
      out += fmt::format(">\n      <failure type=\"failed\" message=\"{}\"/>\n    </testcase>\n",
                         reason);
      return;
    case Decision::kUndecided:
      out += fmt::format(">\n      <error type=\"not decided\" message=\"{}\"/>\n    </testcase>\n",
                         reason);
  }
}

}  // namespace

std::string ReportsToJunit(std::span<const Report> reports) {
  Counts all;
  for (const Report& report : reports) {
    const Counts counts = CountsOf(report);
    all.tests += counts.tests;
    all.failures += counts.failures;
    all.errors += counts.errors;
  }
  // The seconds of a report are those of the whole run.
  const double seconds = reports.empty() ? 0 : reports[0].seconds;
  std::string out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
  out += fmt::format("<testsuites name=\"quern perplexity\" {}>\n", Attributes(all, seconds));
  for (const Report& report : reports) {
    out += fmt::format("  <testsuite name=\"{}\" {}>\n", XmlEscaped(report.model_name),
                       Attributes(CountsOf(report), seconds / double(reports.size())));
    AppendProperties(report, out);
    if (report.verdict) {
      for (const GateResult& result : report.verdict->gates) AppendGate(result, out);
    } else {
      out += "    <testcase classname=\"quern.perplexity\" name=\"measured\" time=\"0\"/>\n";
    }
    out += "  </testsuite>\n";
  }
  return out + "</testsuites>\n";
}

}  // namespace quern
