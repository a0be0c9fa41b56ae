// quern perplexity: how well models predict a text, how far they are from a reference, and whether
// that is good enough.
#include <optional>

#include "converters/converters.h"
#include "formats/core/file.h"
#include "tools/command.h"
#include "tools/gate_flags.h"
#include "tools/io_args.h"
#include "tools/report_files.h"
#include "tools/report_json.h"
#include "tools/report_target.h"
#include "tools/report_text.h"
#include "tools/terminal.h"
#include "verify/per_tensor.h"
#include "verify/perplexity.h"

namespace quern {
namespace {

// A text of more than this is certainly not meant.
constexpr uint64_t kMaxTextBytes = uint64_t{4} << 30;

class PerplexityCommand final : public Command {
 public:
  void AddFlags(Flags& flags) override {
    flags.Arguments("models", models_);
    flags.Value("-f,--text", text_, "FILE", "Text file to predict, taken as bytes");
    flags.Value("--reference", reference_, "MODEL",
                "Also measure the divergence from this model or checkpoint");
    flags.Value("--baseline", baseline_, "REPORT",
                "Also compare with an earlier run's --json report on the same text");
    flags.Value("-c,--context", context_, "N",
                "Tokens per window (default: 512, or 2048 with --protocol papers)");
    flags.Value("--chunks", chunks_, "N", "At most so many windows (default: all)");
    flags.Value("--part", part_, "K/N",
                "Only the K-th of N parts of the windows; quern merge puts their reports together");
    flags.Value("--protocol", protocol_, "NAME",
                "llama.cpp (second half of each window counts) or papers (all of it)");
    flags.Value("--compute", compute_, "TYPE", "Products in f32 (the reference) or bf16");
    flags.Switch("--per-tensor", per_tensor_,
                 "Also measure the reference with one tensor at a time taken from the model");
    gates_.AddTo(flags);
    report_files_.AddTo(flags);
  }

  int Run(Session& session) override {
    if (models_.empty())
      throw UsageError("usage.no-input", "no model given")
          .Hint("name a GGUF file or a checkpoint folder");
    if (text_.empty())
      throw UsageError("usage.text", "no text given").Hint("for instance --text wiki.test.raw");
    PerplexityOptions options = Options(session);
    for (const std::string& model : models_) RefuseStream(model, "the model");
    RefuseStream(reference_, "the reference");
    for (const std::string& model : models_) UseInput(session, model);
    if (!reference_.empty()) UseInput(session, reference_);
    UseFiles(session, {text_, baseline_});
    report_files_.Use(session);
    const std::optional<Report> baseline = ReadBaseline();
    if (baseline) options.baseline = &*baseline;
    const std::string text = ReadText(text_, kMaxTextBytes);
    const CheckpointOptions checkpoint{.context_length = {}, .name = "", .log = &session.terminal};
    std::vector<std::unique_ptr<TensorStore>> opened;
    std::vector<const TensorStore*> models;
    for (const std::string& model : models_) {
      opened.push_back(OpenCheckpoint(model, checkpoint));
      models.push_back(opened.back().get());
    }
    const auto reference = reference_.empty() ? nullptr : OpenCheckpoint(reference_, checkpoint);
    std::vector<Report> reports = ComparePerplexity(models, reference.get(), text, options);
    if (per_tensor_) {
      reports[0].per_tensor = MeasurePerTensor(*models[0], *reference, text, options);
    }
    session.terminal.End();
    if (session.json != "-") PrintOut(ReportsToText(reports));
    if (session.wants_json()) WriteJson(session, ReportsToJson(reports));
    report_files_.Write(reports, session);
    return ExitCodeOf(reports);
  }

 private:
  PerplexityOptions Options(Session& session) const {
    PerplexityOptions options;
    if (protocol_ == "papers") {
      options.protocol = Protocol::kPapers;
    } else if (protocol_ != "llama.cpp") {
      throw UsageError("usage.flag-value",
                       "--protocol takes llama.cpp or papers, not " + Quoted(protocol_));
    }
    if (compute_ == "bf16") {
      options.forward.compute = Compute::kBF16;
    } else if (compute_ != "f32") {
      throw UsageError("usage.flag-value", "--compute takes f32 or bf16, not " + Quoted(compute_));
    }
    if (!context_.empty()) options.context = ParseCount("--context", context_, 4, 1 << 24);
    if (!chunks_.empty()) options.chunks = ParseCount("--chunks", chunks_, 1, UINT32_MAX);
    if (!part_.empty()) ParsePart(options);
    if (per_tensor_ && (models_.size() != 1 || reference_.empty() || !part_.empty())) {
      throw UsageError("usage.per-tensor", "--per-tensor compares one model with a reference")
          .Hint("give one model and --reference MODEL, without --part");
    }
    options.gates =
        gates_.Understand(!reference_.empty() || !baseline_.empty(), !reference_.empty());
    options.baseline_name = baseline_;
    options.threads = session.threads;
    if (session.memory_bytes) options.memory_bytes = *session.memory_bytes;
    options.progress = &session.terminal;
    return options;
  }

  void ParsePart(PerplexityOptions& options) const {
    const size_t slash = part_.find('/');
    if (slash == std::string::npos) {
      throw UsageError("usage.flag-value",
                       "--part takes K/N, for instance 1/4, not " + Quoted(part_));
    }
    options.parts = ParseCount("--part K/N", part_.substr(slash + 1), 1, UINT32_MAX);
    options.part = ParseCount("--part K/N", part_.substr(0, slash), 1, options.parts);
    if (options.parts == 1) return;  // The whole text.
    if (gates_.Any()) {
      throw UsageError("usage.part", "a part of the text decides no gate")
          .Hint("give the gates to quern merge");
    }
    if (!baseline_.empty()) {
      throw UsageError("usage.part", "--part and --baseline do not go together");
    }
  }

  // Returns the only report of --baseline.
  std::optional<Report> ReadBaseline() const {
    if (baseline_.empty()) return std::nullopt;
    std::vector<Report> reports =
        ReportsFromJson(ReadWholeFile(baseline_, kMaxReportBytes), baseline_);
    if (reports.size() == 1) return std::move(reports[0]);
    throw DataError("baseline.several", "the baseline measured several models")
        .File(baseline_)
        .Found(std::to_string(reports.size()) + " reports")
        .Expected("one")
        .Hint("measure the model to compare with alone");
  }

  std::vector<std::string> models_;
  std::string text_, reference_, baseline_, context_, chunks_, part_;
  std::string protocol_ = "llama.cpp", compute_ = "f32";
  bool per_tensor_ = false;
  GateFlags gates_;
  ReportFiles report_files_;
};

}  // namespace

const CommandInfo kPerplexityCommand = {
    .name = "perplexity",
    .summary = "Measure how well models predict a text, and their distance from a reference",
    .usage = "perplexity MODEL… --text FILE [--reference BASE] [--max-ppl-ratio R …]",
    .examples =
        "  quern perplexity q4_0.gguf --text wiki.test.raw                        perplexity as "
        "llama.cpp defines it\n"
        "  quern perplexity q4_0.gguf --text wiki.test.raw --reference ckpt/      and KL "
        "divergence from the original\n"
        "  quern perplexity --reference f16.gguf q8_0.gguf q4_0.gguf -f wiki.test.raw   several, "
        "the reference once\n"
        "  quern perplexity q4_0.gguf -f wiki.test.raw --reference ckpt/ --max-ppl-ratio 1.02   a "
        "gate for CI\n"
        "  quern perplexity q4_0.gguf -f wiki.test.raw --reference ckpt/ --per-tensor --chunks 4   "
        "where it arises\n"
        "  quern perplexity q4_0.gguf -f wiki.test.raw --reference ckpt/ --html report.html   "
        "plots in one page\n"
        "  quern perplexity q4_0.gguf -f wiki.test.raw --baseline yesterday.json  beside an "
        "earlier report\n"
        "  quern perplexity m.gguf -f wiki.test.raw --protocol papers -c 2048     whole windows, "
        "as papers report it\n"
        "  quern perplexity m.gguf -f wiki.test.raw --chunks 20 --json            the first 20 "
        "windows, for machines\n",
    .notes =
        "MODEL and BASE are GGUF files or checkpoint folders. With protocol llama.cpp, windows of "
        "512 tokens\n"
        "begin with the begin-of-text token and the second half of each counts; with papers, "
        "windows of 2048\n"
        "stand as they are and all predictions count. Errors of comparisons take windows as "
        "independent, that of\n"
        "the perplexity predictions, as llama.cpp's. With gates the run ends as soon as all are "
        "decided.\n",
    .make = [] { return std::unique_ptr<Command>(std::make_unique<PerplexityCommand>()); },
};

}  // namespace quern
