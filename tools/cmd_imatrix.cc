// quern imatrix: how much each column of each matrix matters, from what goes into the matrices
// while the model reads a text.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "converters/converters.h"
#include "formats/imatrix_writer.h"
#include "tools/command.h"
#include "tools/io_args.h"
#include "tools/report_format.h"
#include "tools/report_target.h"
#include "tools/signals.h"
#include "tools/table.h"
#include "verify/imatrix_collect.h"
#include "verify/imatrix_statistics.h"

namespace quern {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxTextBytes = uint64_t{4} << 30;

std::string BaseName(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

std::string StatisticsText(const std::vector<ImatrixStatistics>& all) {
  Table table({{"tensor"},
               {"columns", Align::kRight},
               {"sum", Align::kRight},
               {"min", Align::kRight},
               {"max", Align::kRight},
               {"mean", Align::kRight},
               {"deviation", Align::kRight},
               {"active %", Align::kRight},
               {"entropy", Align::kRight},
               {"relative", Align::kRight},
               {"outliers %", Align::kRight},
               {"cosine", Align::kRight}});
  for (const ImatrixStatistics& s : all) {
    table.AddRow({Escaped(s.name), fmt::format("{}", s.n_values), fmt::format("{:.6g}", s.sum),
                  fmt::format("{:.4g}", s.minimum), fmt::format("{:.4g}", s.maximum),
                  fmt::format("{:.4g}", s.mean), fmt::format("{:.4g}", s.deviation),
                  fmt::format("{:.2f}", 100 * s.active), fmt::format("{:.4f}", s.entropy_bits),
                  fmt::format("{:.4f}", s.relative_entropy),
                  fmt::format("{:.2f}", 100 * s.outliers),
                  s.cosine_to_previous ? fmt::format("{:.4f}", *s.cosine_to_previous) : ""});
  }
  return table.ToString();
}

Json SummaryJson(const Imatrix& imatrix) {
  Json json = {{"schema", "quern.imatrix-run/1"}, {"entries", imatrix.entries.size()}};
  json["datasets"] = Json::array();
  for (size_t i = 0; i < imatrix.datasets.size(); ++i) {
    json["datasets"].push_back(Escaped(imatrix.datasets[i], 4096));
  }
  if (imatrix.n_chunks) json["windows"] = *imatrix.n_chunks;
  if (imatrix.chunk_size) json["context"] = *imatrix.chunk_size;
  return json;
}

class ImatrixCommand final : public Command {
 public:
  void AddFlags(Flags& flags) override {
    flags.Arguments("inputs", inputs_);
    flags.Values("-f,--text", texts_, "FILE", "Calibration text, taken as bytes; may be repeated");
    flags.Value("-o,--output", output_, "FILE", "File to write");
    flags.Value("--format", format_, "NAME",
                "gguf or legacy (default: legacy for names that end in .dat, else gguf)");
    flags.Switch("--force", force_, "Replace an existing file");
    flags.Switch("--merge", merge_, "Add up matrices of the same model instead of collecting");
    flags.Switch("--show", show_, "Show statistics of each tensor of a matrix");
    flags.Value("-c,--context", context_, "N", "Tokens per window (default: 512)");
    flags.Value("--chunks", chunks_, "N", "At most so many windows (default: all)");
    flags.Switch("--output-matrix", output_matrix_,
                 "Collect for the matrix of the vocabulary too (output.weight)");
    flags.Value("--compute", compute_, "TYPE", "Products in f32 (the reference) or bf16");
  }

  int Run(Session& session) override {
    if (merge_ && show_) throw UsageError("usage.imatrix", "--merge and --show exclude each other");
    if (inputs_.empty()) {
      throw UsageError("usage.no-input",
                       merge_ || show_ ? "no importance matrix given" : "no model given")
          .Hint("quern imatrix MODEL --text FILE -o OUT");
    }
    if (show_) return Show(session);
    if (output_.empty() || output_ == "-") {
      throw UsageError("usage.output", "no output file given")
          .Hint("for instance -o m.imatrix.gguf");
    }
    if (format_ != "" && format_ != "gguf" && format_ != "legacy") {
      throw UsageError("usage.flag-value", "--format takes gguf or legacy, not " + Quoted(format_));
    }
    return merge_ ? Merge(session) : Collect(session);
  }

 private:
  const std::string& OnlyInput(std::string_view what) const {
    if (inputs_.size() > 1) {
      throw UsageError("usage.extra-argument", "unexpected argument " + Quoted(inputs_[1]))
          .Expected(what);
    }
    return inputs_[0];
  }

  int Show(Session& session) const {
    const std::string& file = OnlyInput("one importance matrix");
    UseFiles(session, {file});
    const Imatrix imatrix = ReadImatrix(file);
    const std::vector<ImatrixStatistics> all = StatisticsOf(imatrix);
    if (session.json != "-") PrintOut(StatisticsText(all));
    if (!session.wants_json()) return 0;
    Json json = SummaryJson(imatrix);
    json["schema"] = "quern.imatrix-statistics/1";
    json["tensors"] = Json::array();
    for (const ImatrixStatistics& s : all) {
      json["tensors"].push_back(
          {{"name", Escaped(s.name, kImatrixMaxNameBytes)},
           {"columns", s.n_values},
           {"sum", s.sum},
           {"minimum", s.minimum},
           {"maximum", s.maximum},
           {"mean", s.mean},
           {"deviation", s.deviation},
           {"active", s.active},
           {"entropy_bits", s.entropy_bits},
           {"relative_entropy", s.relative_entropy},
           {"outliers", s.outliers},
           {"cosine_to_previous",
            s.cosine_to_previous ? Json(*s.cosine_to_previous) : Json(nullptr)}});
    }
    WriteJson(session, json.dump(2));
    return 0;
  }

  int Merge(Session& session) const {
    if (!texts_.empty()) throw UsageError("usage.imatrix", "--merge reads no text");
    UseFiles(session, inputs_);
    UseFiles(session, {output_});
    std::vector<Imatrix> matrices;
    for (const std::string& file : inputs_) matrices.push_back(ReadImatrix(file));
    return Write(MergeImatrices(matrices, inputs_), inputs_, "merged", session);
  }

  int Collect(Session& session) const {
    const std::string& model_path = OnlyInput("one model; a text goes behind --text");
    RefuseStream(model_path, "the model");
    if (texts_.empty()) {
      throw UsageError("usage.text", "no text given").Hint("for instance --text calibration.txt");
    }
    ImatrixOptions options;
    options.forward.compute = ParseCompute(compute_, session);
    if (!context_.empty()) options.context = ParseCount("--context", context_, 4, 1 << 24);
    if (!chunks_.empty()) options.chunks = ParseCount("--chunks", chunks_, 1, UINT32_MAX);
    options.output_matrix = output_matrix_;
    options.threads = session.threads;
    if (session.memory_bytes) options.memory_bytes = *session.memory_bytes;
    options.progress = &session.terminal;
    options.stop = [] { return DeferredInterrupt::Interrupted(); };
    const std::unique_ptr<TensorStore> model =
        OpenCheckpoint(model_path, {.context_length = {}, .name = "", .log = &session.terminal});
    std::vector<std::string> inputs = InputFilesOf(model_path);
    std::vector<CalibrationText> texts;
    for (const std::string& file : texts_) {
      texts.push_back({BaseName(file), ReadText(file, kMaxTextBytes)});
      inputs.push_back(file);
    }
    UseFiles(session, inputs);
    UseFiles(session, {output_});
    // An output that cannot be is found before the work.
    FindOutputTarget(output_, ModelOutputOptions(force_, inputs, 0));

    const DeferredInterrupt deferred;
    const CollectedImatrix collected = CollectImatrix(*model, texts, options);
    session.terminal.End();
    const int signal = DeferredInterrupt::Signal();
    if (collected.windows == 0) {
      session.terminal.Warn("interrupted before the first windows were done; nothing is written");
      return 128 + signal;
    }
    const bool whole = collected.windows == collected.text_windows;
    const std::string how = whole ? Counted(collected.windows, "window")
                                  : fmt::format("interrupted after {} of {}", collected.windows,
                                                Counted(collected.text_windows, "window"));
    const int code = Write(collected.imatrix, inputs, how, session);
    return whole ? code : 128 + signal;
  }

  int Write(const Imatrix& imatrix, const std::vector<std::string>& inputs, const std::string& how,
            Session& session) const {
    auto output = OpenOutput(output_, ModelOutputOptions(force_, inputs, 0));
    const bool legacy = format_ == "legacy" || (format_.empty() && output_.ends_with(".dat"));
    if (legacy) {
      WriteImatrixLegacy(imatrix, std::move(output));
    } else {
      WriteImatrixGguf(imatrix, std::move(output));
    }
    session.terminal.NoteDone([&] {
      return fmt::format("wrote {}: {} entries, {}, {}", Escaped(output_, 4096),
                         imatrix.entries.size(), how, legacy ? "legacy" : "GGUF");
    });
    if (session.wants_json()) {
      Json json = SummaryJson(imatrix);
      json["output"] = Escaped(output_, 4096);
      json["layout"] = legacy ? "legacy" : "gguf";
      WriteJson(session, json.dump(2));
    }
    return 0;
  }

  std::vector<std::string> inputs_, texts_;
  std::string output_, format_, context_, chunks_, compute_ = "f32";
  bool force_ = false, merge_ = false, show_ = false, output_matrix_ = false;
};

}  // namespace

const CommandInfo kImatrixCommand = {
    .name = "imatrix",
    .summary = "Collect which columns of the matrices matter, for quantize --imatrix",
    .usage = "imatrix MODEL --text FILE -o OUT",
    .examples =
        "  quern imatrix f16.gguf --text calibration.txt -o m.imatrix.gguf     collect\n"
        "  quern imatrix ckpt/ -f prose.txt -f code.txt -o m.imatrix.gguf      several texts\n"
        "  quern imatrix f16.gguf --text calibration.txt -o imatrix.dat        the older layout\n"
        "  quern imatrix --merge a.imatrix.gguf b.imatrix.gguf -o ab.imatrix.gguf\n"
        "  quern imatrix --show m.imatrix.gguf                                 statistics per "
        "tensor\n"
        "  quern quantize f16.gguf -t q4_k_m --imatrix m.imatrix.gguf -o q4_k_m.gguf\n",
    .notes =
        "Every text is cut into windows as perplexity's llama.cpp protocol cuts it; all their "
        "tokens count. Both\n"
        "layouts are llama.cpp's and read by its quantizer. Ctrl-C writes what was collected so "
        "far (exit code 130);\n"
        "a second one ends at once.\n",
    .make = [] { return std::unique_ptr<Command>(std::make_unique<ImatrixCommand>()); },
};

}  // namespace quern
