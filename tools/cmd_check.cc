// quern check: every fault of a model file or checkpoint folder, in one run.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "converters/checklist.h"
#include "converters/converters.h"
#include "formats/core/finding.h"
#include "formats/formats.h"
#include "formats/model_file.h"
#include "tools/command.h"
#include "tools/io_args.h"
#include "tools/report_target.h"
#include "tools/terminal.h"
#include "verify/integrity.h"

namespace quern {
namespace {

std::string_view NameOf(Finding::Severity severity) {
  switch (severity) {
    case Finding::Severity::kNote:
      return "note";
    case Finding::Severity::kWarning:
      return "warning";
    case Finding::Severity::kError:
      return "error";
  }
  return "?";
}

bool HasErrors(const std::vector<Finding>& findings) {
  return std::ranges::any_of(
      findings, [](const Finding& f) { return f.severity == Finding::Severity::kError; });
}

// Appends what is not said yet: damage that keeps weights from being read was found before.
void Append(std::vector<Finding> more, std::vector<Finding>& findings) {
  const size_t n_known = findings.size();
  for (Finding& finding : more) {
    const auto known = findings.begin() + static_cast<ptrdiff_t>(n_known);
    if (std::find(findings.begin(), known, finding) == known)
      findings.push_back(std::move(finding));
  }
}

class CheckCommand final : public Command {
 public:
  void AddFlags(Flags& flags) override {
    flags.Argument("path", path_);
    flags.Switch("--no-weights", no_weights_, "Do not read the weights: structure and sums only");
  }

  int Run(Session& session) override {
    if (path_.empty()) {
      throw UsageError("usage.no-input", "no path given")
          .Hint("name a GGUF file or a checkpoint folder");
    }
    RefuseStream(path_, "the model");
    UseInput(session, path_);
    const std::vector<Finding> findings = Check(session);
    session.terminal.End();
    const bool damaged = HasErrors(findings);
    if (session.wants_json()) WriteJson(session, Json(findings, damaged).dump(2));
    if (session.json != "-") PrintOut(Text(findings, damaged));
    return damaged ? 1 : 0;
  }

 private:
  std::vector<Finding> Check(Session& session) const {
    const FileKind kind = DetectKind(path_);
    const bool is_folder = kind == FileKind::kDirectory;
    RefuseUnknown(kind);
    // The sums of zip entries are compared by themselves, so that one that differs hides nothing.
    const CheckpointOptions no_sums{.context_length = {}, .name = "", .verify_crc = false};
    std::vector<Finding> findings = CheckCheckpoint(path_, no_sums);
    if (is_folder) Append(VerifyChecklist(path_, &session.terminal), findings);
    if (no_weights_) return findings;
    IntegrityOptions options{.threads = session.threads, .progress = &session.terminal};
    if (session.memory_bytes) options.memory_bytes = *session.memory_bytes;
    Append(CheckStorageSums(path_, &session.terminal), findings);
    if (FindContainer(kind) != nullptr && !HasErrors(findings)) {
      Append(CheckModelFile(path_, &session.terminal), findings);
    }
    try {
      Append(CheckWeights(*OpenCheckpoint(path_, no_sums), options), findings);
    } catch (const Error& error) {
      // What keeps the checkpoint from opening was found above, unless only opening sees it.
      if (error.code() == ErrorCode::kMemory || error.code() == ErrorCode::kBug) throw;
      if (!HasErrors(findings)) findings.push_back(FindingFrom(error));
      // The whole cannot be opened, but the weights of its sound shards can be looked at.
      for (const auto& part : OpenSoundParts(path_)) Append(CheckWeights(*part, options), findings);
    }
    return findings;
  }

  // Throws: Error kData (or as the kind has it) where the file is nothing that could be checked.
  void RefuseUnknown(FileKind kind) const {
    switch (kind) {
      case FileKind::kDirectory:
      case FileKind::kGguf:
      case FileKind::kQpack:
      case FileKind::kTorchZip:
        return;
      default: {
        const InputFile file(path_);
        const auto head = file.ReadVector(0, std::min<uint64_t>(file.size_bytes(), kDetectBytes));
        throw WrongKind(kind, head, path_, "a model or checkpoint");
      }
    }
  }

  std::string Text(const std::vector<Finding>& findings, bool damaged) const {
    std::string out;
    for (const Finding& finding : findings) {
      out += fmt::format("{}: {}\n", NameOf(finding.severity), finding.line);
      if (!finding.hint.empty()) out += fmt::format("  hint: {}\n", finding.hint);
    }
    return out + fmt::format("{}: {}\n", Escaped(path_, 4096),
                             damaged            ? "damaged"
                             : findings.empty() ? "sound"
                                                : "sound, with remarks");
  }

  nlohmann::ordered_json Json(const std::vector<Finding>& findings, bool damaged) const {
    nlohmann::ordered_json json;
    json["schema"] = "quern.check/1";
    json["path"] = Escaped(path_, 4096);
    json["damaged"] = damaged;
    json["findings"] = nlohmann::ordered_json::array();
    for (const Finding& finding : findings) {
      json["findings"].push_back({{"severity", NameOf(finding.severity)},
                                  {"id", finding.id},
                                  {"message", finding.line},
                                  {"hint", finding.hint}});
    }
    return json;
  }

  std::string path_;
  bool no_weights_ = false;
};

}  // namespace

const CommandInfo kCheckCommand = {
    .name = "check",
    .summary = "Find every fault of a model file or checkpoint folder",
    .usage = "check PATH [--json]",
    .examples =
        "  quern check q4_0.gguf            structure and every weight\n"
        "  quern check Llama-2-7b/          shards, sums of checklist.chk, every weight\n",
    .notes =
        "All findings in one run, each with file, tensor and place. Exit code 0 if there is no "
        "damage, 1 "
        "if\nthere is, 3 if the file is of no kind that quern knows.\n",
    .make = [] { return std::unique_ptr<Command>(std::make_unique<CheckCommand>()); },
};

}  // namespace quern
