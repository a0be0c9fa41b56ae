// quern diff: how far the weights of one model are from another's, tensor by tensor.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "converters/converters.h"
#include "tools/command.h"
#include "tools/io_args.h"
#include "tools/report_target.h"
#include "tools/table.h"
#include "tools/terminal.h"
#include "verify/distortion.h"

namespace quern {
namespace {

using Json = nlohmann::ordered_json;

// Throws: Error kUsage.
double ParseMaxError(const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, status] = std::from_chars(text.data(), end, value);
  if (status == std::errc() && stop == end && std::isfinite(value) && value >= 0) return value;
  throw UsageError("usage.number", "--max-error takes a number of zero or more")
      .Found(Quoted(text));
}

// JSON knows no infinity and no NaN: null.
Json Number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json FiguresJson(const ErrorSums& sums) {
  return {{"relative_rmse", Number(sums.RelativeRmse())},
          {"sqnr_db", Number(sums.SqnrDb())},
          {"cosine", Number(sums.Cosine())},
          {"max_error", Number(sums.max_error)}};
}

std::vector<std::string> FigureCells(const ErrorSums& sums) {
  return {fmt::format("{:.6f}", sums.RelativeRmse()), fmt::format("{:.2f}", sums.SqnrDb()),
          fmt::format("{:.7f}", sums.Cosine()), fmt::format("{:.6g}", sums.max_error)};
}

class DiffCommand final : public Command {
 public:
  void AddFlags(Flags& flags) override {
    flags.Argument("reference", reference_);
    flags.Argument("other", other_);
    flags.Value("--max-error", max_error_, "X",
                "Exit code 1 if the relative RMSE of any tensor is above this, or a tensor has "
                "no partner");
  }

  int Run(Session& session) override {
    if (reference_.empty() || other_.empty()) {
      throw UsageError("usage.no-input", "two models are compared")
          .Hint("quern diff REFERENCE OTHER");
    }
    if (!max_error_.empty()) limit_ = ParseMaxError(max_error_);
    const CheckpointOptions open{.context_length = {}, .name = "", .log = &session.terminal};
    RefuseStream(reference_, "the reference");
    RefuseStream(other_, "the other model");
    UseInput(session, reference_);
    UseInput(session, other_);
    const auto reference = OpenCheckpoint(reference_, open);
    const auto other = OpenCheckpoint(other_, open);
    BandOptions options{.threads = session.threads, .progress = &session.terminal};
    if (session.memory_bytes) options.memory_bytes = *session.memory_bytes;
    const Distortion distortion = MeasureDistortion(*reference, *other, options);
    const std::vector<std::string> reasons = limit_ ? Reasons(distortion) : Strings{};
    if (session.wants_json()) WriteJson(session, ToJson(distortion, reasons).dump(2));
    if (session.json != "-") PrintOut(ToText(distortion, reasons));
    return reasons.empty() ? 0 : 1;
  }

 private:
  using Strings = std::vector<std::string>;

  // Returns why the gate stays shut; nothing if it opens.
  Strings Reasons(const Distortion& distortion) const {
    Strings reasons;
    for (const TensorDistortion& tensor : distortion.tensors) {
      const double rmse = tensor.sums.RelativeRmse();
      if (rmse <= *limit_) continue;  // A NaN is not.
      reasons.push_back(fmt::format("tensor {}: relative RMSE {:.6f} is not within {}",
                                    Quoted(tensor.name), rmse, *limit_));
    }
    // Errors, and types that cannot be decoded: nobody knows how far those are off.
    const auto n_unknown = std::ranges::count_if(distortion.findings, [](const Finding& finding) {
      return finding.severity == Finding::Severity::kError || finding.id == "diff.not-decoded";
    });
    if (n_unknown != 0) reasons.push_back(fmt::format("{} tensors could not be compared", n_unknown));
    return reasons;
  }

  std::string ToText(const Distortion& distortion, const Strings& reasons) const {
    Table table({{"tensor"},
                 {"types"},
                 {"rel. RMSE", Align::kRight},
                 {"SQNR dB", Align::kRight},
                 {"cosine", Align::kRight},
                 {"max error", Align::kRight},
                 {"worst row", Align::kRight},
                 {"its RMSE", Align::kRight}});
    const auto add = [&](Strings row, const ErrorSums& sums, Strings worst) {
      for (auto& cell : FigureCells(sums)) row.push_back(std::move(cell));
      for (auto& cell : worst) row.push_back(std::move(cell));
      table.AddRow(row);
    };
    for (const TensorDistortion& tensor : distortion.tensors) {
      add({Escaped(tensor.name),
           tensor.reference_type == tensor.other_type
               ? std::string(NameOf(tensor.other_type))
               : fmt::format("{} {}", NameOf(tensor.reference_type), NameOf(tensor.other_type))},
          tensor.sums,
          {fmt::format("{}", tensor.worst_row),
           fmt::format("{:.6f}", tensor.worst_row_relative_rmse)});
    }
    add({"total", ""}, distortion.total, {"", ""});
    std::string text = table.ToString();
    for (const Finding& finding : distortion.findings) {
      text +=
          fmt::format("{}: {}\n", finding.severity == Finding::Severity::kError ? "error" : "note",
                      finding.line);
    }
    if (!limit_) return text;
    for (const std::string& reason : reasons) text += fmt::format("failed: {}\n", reason);
    if (reasons.empty()) text += fmt::format("passed: every tensor is within {}\n", *limit_);
    return text;
  }

  Json ToJson(const Distortion& distortion, const Strings& reasons) const {
    Json json = {{"schema", "quern.diff/1"},
                 {"reference", Escaped(reference_, 4096)},
                 {"other", Escaped(other_, 4096)},
                 {"tensors", Json::array()}};
    for (const TensorDistortion& tensor : distortion.tensors) {
      Json row = {{"name", Escaped(tensor.name)},
                  {"reference_type", NameOf(tensor.reference_type)},
                  {"other_type", NameOf(tensor.other_type)},
                  {"n_elems", tensor.n_elems}};
      row.update(FiguresJson(tensor.sums));
      row["worst_row"] = tensor.worst_row;
      row["worst_row_relative_rmse"] = Number(tensor.worst_row_relative_rmse);
      json["tensors"].push_back(std::move(row));
    }
    json["total"] = FiguresJson(distortion.total);
    json["findings"] = Json::array();
    for (const Finding& finding : distortion.findings) {
      json["findings"].push_back({{"id", finding.id}, {"message", finding.line}});
    }
    if (limit_)
      json["gate"] = {{"max_error", *limit_}, {"passed", reasons.empty()}, {"reasons", reasons}};
    return json;
  }

  std::string reference_, other_, max_error_;
  std::optional<double> limit_;
};

}  // namespace

const CommandInfo kDiffCommand = {
    .name = "diff",
    .summary = "Compare the weights of two models, tensor by tensor",
    .usage = "diff REFERENCE OTHER [--max-error X] [--json]",
    .examples =
        "  quern diff f16.gguf q4_k_m.gguf             what quantizing did to each tensor\n"
        "  quern diff Llama-2-7b/ q8_0.gguf --max-error 0.01   a gate for CI: exit code 1\n",
    .notes =
        "Relative RMSE is sqrt(sum (x-y)^2 / sum x^2), SQNR 10 log10(sum x^2 / sum (x-y)^2), x the "
        "reference.\nTensors are matched by name; those without a partner, of another shape or "
        "not finite are listed,\nand fail a gate.\n",
    .make = [] { return std::unique_ptr<Command>(std::make_unique<DiffCommand>()); },
};

}  // namespace quern
