// quern quantize: any checkpoint or GGUF to a quantized GGUF, in one pass.
#include <CLI/CLI.hpp>

#include "converters/converters.h"
#include "quant/plan.h"
#include "tools/command.h"
#include "tools/io_args.h"
#include "tools/pass.h"
#include "tools/suggest.h"

namespace quern {
namespace {

class QuantizeCommand final : public Command {
 public:
  void AddOptions(CLI::App& app) override {
    app.add_option("input", input_);
    AddWriterFlags(app, writer_);
    app.add_option("-t,--type", type_, "Type or preset to quantize to (quern types lists them)")
        ->type_name("TYPE");
    app.add_flag("--requantize", requantize_,
                 "Let tensors that are quantized already be quantized again (loses accuracy)");
    app.add_option("--context", context_,
                   "Context length to record (default: what the checkpoint says, else a rule)")
        ->type_name("N");
    app.add_option("--name", name_, "Model name to record (general.name)")->type_name("TEXT");
  }

  int Run(Session& session) override {
    CheckWriterFlags(writer_, session);
    if (type_.empty()) {
      throw UsageError("usage.type", "no type given")
          .Hint("for instance -t q4_0; quern types lists them");
    }
    if (FindPreset(type_) == nullptr) ThrowUnknownType();
    CheckpointOptions options{.context_length = {}, .name = name_, .log = &session.terminal};
    if (!context_.empty()) {
      options.context_length =
          static_cast<uint32_t>(ParseCount("--context", context_, 1, UINT32_MAX));
    }
    OpenedSource source = OpenSource(ResolveInput(input_), options);
    const QuantPlan plan = MakePlan(source.manifest(), type_, {.requantize = requantize_});
    return RunPass("quantize", source, plan, writer_, session);
  }

 private:
  [[noreturn]] void ThrowUnknownType() const {
    std::vector<std::string> names;
    for (const Preset& preset : AllPresets()) names.emplace_back(preset.name);
    const std::string nearest = NearestWord(type_, names);
    throw UsageError("usage.type", "unknown type " + Quoted(type_))
        .Hint(nearest.empty() ? "quern types lists them"
                              : "did you mean " + nearest + "? (quern types lists all)");
  }

  std::string input_, type_, context_, name_;
  bool requantize_ = false;
  WriterFlags writer_;
};

}  // namespace

const CommandInfo kQuantizeCommand = {
    .name = "quantize",
    .summary = "Turn a checkpoint or GGUF into a quantized GGUF, in one pass",
    .usage = "quantize [IN] -t TYPE [-o OUT]",
    .examples =
        "  quern quantize Llama-2-7b/ -t q4_0 -o q4_0.gguf       straight from Meta's shards\n"
        "  quern quantize llama-2-7b.gguf -t q8_0 -o q8_0.gguf   from a GGUF file\n"
        "  quern convert Llama-2-7b/ | quern quantize -t q4_0 > q4_0.gguf\n"
        "  quern quantize Llama-2-7b/ -t q4_0 -n --explain       each tensor's type, and the size; "
        "writes nothing\n",
    .notes =
        "IN is whatever quern convert reads; without IN, a GGUF stream from standard input. "
        "Matrices get the\n"
        "type, vectors stay f32. The output's bytes depend on input, flags and version only.\n",
    .make = [] { return std::unique_ptr<Command>(std::make_unique<QuantizeCommand>()); },
};

}  // namespace quern
