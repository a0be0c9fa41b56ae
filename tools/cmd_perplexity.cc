// quern perplexity: how well models predict a text, how far they are from a reference, and whether
// that is good enough.
#include <fmt/format.h>

#include <optional>

#include "converters/converters.h"
#include "formats/core/file.h"
#include "tools/command.h"
#include "tools/gate_flags.h"
#include "tools/io_args.h"
#include "tools/report_files.h"
#include "tools/report_format.h"
#include "tools/report_json.h"
#include "tools/report_target.h"
#include "tools/report_text.h"
#include "tools/terminal.h"
#include "verify/per_tensor.h"
#include "verify/perplexity.h"
#include "verify/windows.h"

namespace quern {
namespace {

class PerplexityCommand final : public Command {
 public:
  void AddFlags(Flags& flags) override {
    flags.Arguments("models", models_);
    flags.Value("-f,--text", text_, "FILE", "Text file to predict, taken as bytes");
    flags.Value("--reference", reference_, "MODEL",
                "Also measure the divergence from this model or checkpoint");
    flags.Value("--reference-logits", reference_logits_, "FILE",
                "The same with a file of --save-logits or llama.cpp in the model's place");
    flags.Value("--save-logits", save_logits_, "FILE",
                "Also write what the model predicts, as llama.cpp's --kl-divergence-base");
    flags.Switch("--force", force_, "Replace an existing file of --save-logits");
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
    UseFiles(session, {text_, baseline_, reference_logits_, save_logits_});
    report_files_.Use(session);
    const std::optional<Report> baseline = ReadBaseline(baseline_);
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
    for (const TensorStore* model : models) WarnOfContext(*model, options, session);
    std::optional<LogitsFile> logits;
    if (!reference_logits_.empty()) {
      logits.emplace(std::make_unique<InputFile>(reference_logits_));
      options.reference_logits = &*logits;
    }
    if (!save_logits_.empty()) {
      options.save_logits = [this](uint64_t n_bytes) {
        return OpenOutput(save_logits_, ModelOutputOptions(force_, InputFiles(), n_bytes));
      };
      FindOutputTarget(save_logits_, ModelOutputOptions(force_, InputFiles(), 0));
    }
    std::optional<PerTensor> per_tensor;  // What it cannot do is told before the work.
    if (per_tensor_) per_tensor.emplace(*models[0], *reference, text, options);
    std::vector<Report> reports = ComparePerplexity(models, reference.get(), text, options);
    if (per_tensor) reports[0].per_tensor = per_tensor->Measure();
    session.terminal.End();
    if (!save_logits_.empty()) {
      session.terminal.Note(fmt::format("wrote {}: {} of {} tokens", Escaped(save_logits_, 4096),
                                        Counted(reports[0].windows, "window"),
                                        reports[0].context));
    }
    if (session.json != "-") PrintOut(ReportsToText(reports));
    if (session.wants_json()) WriteJson(session, ReportsToJson(reports, !part_.empty()));
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
    options.forward.compute = ParseCompute(compute_, session);
    if (!context_.empty()) options.context = ParseCount("--context", context_, 4, 1 << 24);
    if (!chunks_.empty()) options.chunks = ParseCount("--chunks", chunks_, 1, UINT32_MAX);
    if (!part_.empty()) ParsePart(options);
    if (per_tensor_ && (models_.size() != 1 || reference_.empty() || !part_.empty())) {
      throw UsageError("usage.per-tensor", "--per-tensor compares one model with a reference")
          .Hint("give one model and --reference MODEL, without --part");
    }
    const bool compared = !reference_.empty() || !reference_logits_.empty();
    options.gates = gates_.Understand(compared || !baseline_.empty(), compared);
    CheckLogitsFlags(options);
    options.baseline_name = baseline_;
    options.text_name = text_;
    options.threads = session.threads;
    if (session.memory_bytes) options.memory_bytes = *session.memory_bytes;
    options.progress = &session.terminal;
    return options;
  }

  // The files have whole texts of llama.cpp's protocol, of one model.
  void CheckLogitsFlags(const PerplexityOptions& options) const {
    if (!reference_.empty() && !reference_logits_.empty()) {
      throw UsageError("usage.logits", "--reference and --reference-logits exclude each other");
    }
    if (save_logits_.empty() && reference_logits_.empty()) return;
    if (options.protocol != Protocol::kLlamaCpp) {
      throw UsageError("usage.logits", "files of logits are of llama.cpp's protocol")
          .Hint("leave --protocol out");
    }
    if (save_logits_.empty()) return;
    if (save_logits_ == "-") {
      throw UsageError("usage.logits", "--save-logits writes a file");
    }
    const bool whole = models_.size() == 1 && part_.empty() && baseline_.empty() && !gates_.Any();
    if (!whole || !reference_logits_.empty()) {
      throw UsageError("usage.logits", "--save-logits is for all windows of one model")
          .Hint("give one model, without gates, --part, --baseline and --reference-logits");
    }
  }

  // What no output may replace.
  std::vector<std::string> InputFiles() const {
    std::vector<std::string> files = {text_, baseline_, reference_logits_};
    for (const std::string& model : models_) {
      for (std::string& file : InputFilesOf(model)) files.push_back(std::move(file));
    }
    if (reference_.empty()) return files;
    for (std::string& file : InputFilesOf(reference_)) files.push_back(std::move(file));
    return files;
  }

  // Beyond the context that a model was made for, its numbers say little about it.
  static void WarnOfContext(const TensorStore& model, const PerplexityOptions& options,
                            Session& session) {
    const uint64_t most = model.manifest().spec->context_length;
    const uint64_t context = ContextOf(options);
    if (context <= most || most == 0) return;
    session.terminal.Warn(fmt::format("windows of {} tokens are longer than the context of {}, {}",
                                      context, Escaped(model.name(), 4096), most));
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
      throw UsageError("usage.part", "--part and --baseline do not go together")
          .Hint("give the baseline to quern merge");
    }
  }

  std::vector<std::string> models_;
  std::string text_, reference_, reference_logits_, save_logits_, baseline_;
  std::string context_, chunks_, part_;
  std::string protocol_ = "llama.cpp", compute_ = "f32";
  bool per_tensor_ = false, force_ = false;
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
        "  quern perplexity f16.gguf -f wiki.test.raw --save-logits base.logits   for "
        "--reference-logits, llama.cpp too\n"
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
