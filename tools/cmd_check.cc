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

enum class Verdict : uint8_t { kSound, kSoundWithRemarks, kNotRead, kDamaged };

// Findings that say only what this version of quern cannot do are no damage.
Verdict VerdictOf(const std::vector<Finding>& findings) {
  if (!HasErrors(findings)) {
    return findings.empty() ? Verdict::kSound : Verdict::kSoundWithRemarks;
  }
  const bool is_damaged = std::ranges::any_of(findings, [](const Finding& f) {
    return f.severity == Finding::Severity::kError && f.code != ErrorCode::kUnsupported;
  });
  return is_damaged ? Verdict::kDamaged : Verdict::kNotRead;
}

std::string_view NameOf(Verdict verdict) {
  switch (verdict) {
    case Verdict::kSound:
      return "sound";
    case Verdict::kSoundWithRemarks:
      return "sound, with remarks";
    case Verdict::kNotRead:
      return "not read by this version";
    case Verdict::kDamaged:
      return "damaged";
  }
  return "?";
}

int ExitCodeOf(Verdict verdict) {
  switch (verdict) {
    case Verdict::kDamaged:
      return 1;
    case Verdict::kNotRead:
      return static_cast<int>(ErrorCode::kUnsupported);
    default:
      return 0;
  }
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
    flags.Switch("--no-weights", no_weights_,
                 "Structure and sums only: do not look at the weights' values");
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
    const Verdict verdict = VerdictOf(findings);
    if (session.wants_json()) WriteJson(session, Json(findings, verdict).dump(2));
    if (session.json != "-") PrintOut(Text(findings, verdict));
    return ExitCodeOf(verdict);
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
    Append(CheckSums(path_, &session.terminal), findings);
    // The tensors of a model file are hashed while their values are looked at.
    const bool is_model_file = FindContainer(kind) != nullptr;
    if (is_model_file) Append(CheckFile(no_weights_, session), findings);
    if (no_weights_) return findings;
    IntegrityOptions options{.threads = session.threads, .progress = &session.terminal};
    if (session.memory_bytes) options.memory_bytes = *session.memory_bytes;
    // The whole cannot be opened, but the weights of its sound shards can be looked at.
    const auto check_parts = [&] {
      for (const auto& part : OpenSoundParts(path_)) Append(CheckWeights(*part, options), findings);
    };
    if (IsLoneShard(path_)) {
      check_parts();
      return findings;
    }
    try {
      Append(CheckWeights(*OpenCheckpoint(path_, no_sums), options), findings);
    } catch (const Error& error) {
      // What keeps the checkpoint from opening was found above, unless only opening sees it.
      if (error.code() == ErrorCode::kMemory || error.code() == ErrorCode::kBug) throw;
      if (!HasErrors(findings)) findings.push_back(FindingFrom(error));
      check_parts();
    }
    // Weights that cannot be read tell of one damaged segment each: look at all.
    const bool has_bad_segments = std::ranges::find(findings, std::string_view("qpack.segment"),
                                                    &Finding::id) != findings.end();
    if (is_model_file && has_bad_segments) Append(CheckFile(true, session), findings);
    return findings;
  }

  // Returns what is wrong with the file or files themselves.
  std::vector<Finding> CheckFile(bool hash_tensors, Session& session) const {
    try {
      return CheckModelFile(path_, hash_tensors, &session.terminal);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kData && error.code() != ErrorCode::kUnsupported) throw;
      return {FindingFrom(error)};  // It cannot be opened; that was found before, most times.
    }
  }

  // Throws: Error kData (or as the kind has it) where the file is nothing that could be checked.
  void RefuseUnknown(FileKind kind) const {
    switch (kind) {
      case FileKind::kDirectory:
      case FileKind::kGguf:
      case FileKind::kQpack:
      case FileKind::kTorchZip:
      case FileKind::kSafetensors:
        return;
      default: {
        const InputFile file(path_);
        const auto head = file.ReadVector(0, std::min<uint64_t>(file.size_bytes(), kDetectBytes));
        throw WrongKind(kind, head, path_, "a model or checkpoint");
      }
    }
  }

  std::string Text(const std::vector<Finding>& findings, Verdict verdict) const {
    std::string out;
    for (const Finding& finding : findings) {
      out += fmt::format("{}: {}\n", NameOf(finding.severity), finding.line);
      if (!finding.hint.empty()) out += fmt::format("  hint: {}\n", finding.hint);
    }
    return out + fmt::format("{}: {}\n", Escaped(path_, 4096), NameOf(verdict));
  }

  nlohmann::ordered_json Json(const std::vector<Finding>& findings, Verdict verdict) const {
    nlohmann::ordered_json json;
    json["schema"] = "quern.check/1";
    json["path"] = Escaped(path_, 4096);
    json["verdict"] = NameOf(verdict);
    json["damaged"] = verdict == Verdict::kDamaged;
    json["findings"] = nlohmann::ordered_json::array();
    for (const Finding& finding : findings) {
      nlohmann::ordered_json row = {{"severity", NameOf(finding.severity)},
                                    {"id", finding.id},
                                    {"message", finding.line},
                                    {"hint", finding.hint}};
      row["unsupported"] = finding.code == ErrorCode::kUnsupported;
      if (!finding.file.empty()) row["file"] = finding.file;
      if (!finding.tensor.empty()) row["tensor"] = finding.tensor;
      if (finding.offset) row["offset"] = *finding.offset;
      json["findings"].push_back(std::move(row));
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
        "damage, 1 if\nthere is, 3 if the file is of no kind that quern knows, 4 if nothing is "
        "damaged but this version cannot\nread it.\n",
    .make = [] { return std::unique_ptr<Command>(std::make_unique<CheckCommand>()); },
};

}  // namespace quern
