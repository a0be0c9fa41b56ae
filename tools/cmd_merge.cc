// quern merge: the reports of perplexity --part as the report of one run.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "formats/core/file.h"
#include "tools/gate_flags.h"
#include "tools/io_args.h"
#include "tools/report_files.h"
#include "tools/report_json.h"
#include "tools/report_target.h"
#include "tools/report_text.h"
#include "verify/baseline.h"
#include "verify/merge.h"

namespace quern {
namespace {

class MergeCommand final : public Command {
 public:
  void AddFlags(Flags& flags) override {
    flags.Arguments("reports", files_);
    flags.Value("--baseline", baseline_, "REPORT",
                "Also compare with the --json report of an earlier run on the same text");
    gates_.AddTo(flags);
    report_files_.AddTo(flags);
  }

  int Run(Session& session) override {
    if (files_.empty()) {
      throw UsageError("usage.no-input", "no reports given")
          .Hint("quern merge part1.json part2.json, made with perplexity --part 1/2 --json=FILE");
    }
    UseFiles(session, files_);
    UseFiles(session, {baseline_});
    report_files_.Use(session);
    const std::optional<Report> baseline = ReadBaseline(baseline_);
    std::vector<Report> merged = MergeFiles();
    const bool has_reference = merged.front().divergence.has_value();
    const GateOptions options = gates_.Understand(has_reference || baseline, has_reference);
    for (Report& report : merged) {
      std::vector<double> baseline_nll;  // per window
      if (baseline) {
        baseline_nll = BaselineNll(*baseline, baseline_, report);
        report.baseline = CompareWithBaseline(*baseline, baseline_, baseline_nll, report);
      }
      if (options.gates.empty()) continue;
      report.verdict = Judge(options, report.series, report.windows, report.tokens / report.windows,
                             has_reference ? std::span<double>() : std::span(baseline_nll));
    }
    if (session.json != "-") PrintOut(ReportsToText(merged));
    if (session.wants_json()) WriteJson(session, ReportsToJson(merged));
    report_files_.Write(merged, session);
    return ExitCodeOf(merged);
  }

 private:
  // Every file holds the same models; those of the same size may come in any order.
  std::vector<Report> MergeFiles() const {
    std::vector<std::vector<ReportPart>> parts_of;  // per model
    for (const std::string& file : files_) {
      std::vector<Report> reports = ReportsFromJson(ReadWholeFile(file, kMaxReportBytes), file);
      if (parts_of.empty()) parts_of.resize(reports.size());
      if (reports.size() != parts_of.size()) {
        throw DataError("merge.differs", "two parts did not measure the same")
            .File(file)
            .Found(fmt::format("{} models", reports.size()))
            .Expected(fmt::format("{}, as in {}", parts_of.size(), Quoted(files_[0])))
            .Hint("make all parts with the same models, text and flags");
      }
      for (std::vector<ReportPart>& parts : parts_of) {
        const size_t i = parts.empty() ? static_cast<size_t>(&parts - parts_of.data())
                                       : IndexOf(parts.front().report, reports);
        parts.push_back({file, std::move(reports[i])});
        if (parts.size() > 1) reports.erase(reports.begin() + static_cast<ptrdiff_t>(i));
      }
    }
    std::vector<Report> merged;
    for (const std::vector<ReportPart>& parts : parts_of) merged.push_back(MergeParts(parts));
    return merged;
  }

  // Returns the index of the report of `model`; of equal models that with its name, else the first;
  // where there is none the first, which MergeParts refuses.
  static size_t IndexOf(const Report& model, const std::vector<Report>& reports) {
    size_t found = reports.size();
    for (size_t i = 0; i < reports.size(); ++i) {
      if (reports[i].model_fingerprint != model.model_fingerprint) continue;
      if (reports[i].model_name == model.model_name) return i;
      found = std::min(found, i);
    }
    return found == reports.size() ? 0 : found;
  }

  std::vector<std::string> files_;
  std::string baseline_;
  GateFlags gates_;
  ReportFiles report_files_;
};

}  // namespace

const CommandInfo kMergeCommand = {
    .name = "merge",
    .summary = "Put the reports of perplexity --part together",
    .usage = "merge REPORT… [--json]",
    .examples =
        "  quern perplexity q4_0.gguf -f wiki.test.raw --part 1/2 --json=1.json    on one machine\n"
        "  quern perplexity q4_0.gguf -f wiki.test.raw --part 2/2 --json=2.json    on another\n"
        "  quern merge 1.json 2.json --max-ppl 6.1                                 the numbers of "
        "one run, and a gate\n",
    .notes =
        "Every part must be there once, of the same model, text, protocol and compute type. The "
        "numbers are\nthose of one run over all windows, bit for bit on one machine; seconds are "
        "added up. --baseline takes part as in quern perplexity.\n",
    .make = [] { return std::unique_ptr<Command>(std::make_unique<MergeCommand>()); },
};

}  // namespace quern
