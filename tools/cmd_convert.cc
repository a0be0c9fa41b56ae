// quern convert: any checkpoint to GGUF, without quantizing.

#include "converters/converters.h"
#include "quant/plan.h"
#include "tools/command.h"
#include "tools/io_args.h"
#include "tools/pass.h"

namespace quern {
namespace {

class ConvertCommand final : public Command {
 public:
  void AddFlags(Flags& flags) override {
    flags.Argument("input", input_);
    writer_.AddTo(flags);
    flags.Value("-t,--type", type_, "TYPE",
                "Type of the matrices: source (as they are, the default), f32, f16, bf16");
    source_flags_.AddTo(flags);
    flags.Switch(
        "--trust-metadata", trust_metadata_,
        "Accept a GGUF's metadata that a tool edited in place, if the tensors are as written");
  }

  int Run(Session& session) override {
    CheckWriterFlags(writer_, session);
    const std::optional<DType> type = DTypeFromName(type_);
    if (type_ != "source" && !(type && IsFloat(*type))) {
      throw UsageError("usage.type",
                       "convert writes source, f32, f16 or bf16, not " + Quoted(type_))
          .Hint("quern quantize writes the other types (quern types lists them)");
    }
    CheckpointOptions options = source_flags_.Options(session);
    options.trust_metadata = trust_metadata_;
    const std::string input = ResolveInput(input_);
    if (source_flags_.verify) VerifyInput(input, session);
    OpenedSource source = OpenSource(input, options);
    // A conversion may read a quantized GGUF: its blocks become floats, which -t source and f32 do
    // without loss.
    const QuantPlan plan = MakePlanFor(source, type_, {.requantize = true});
    return RunPass("convert", source, plan, writer_, session);
  }

 private:
  std::string input_;
  SourceFlags source_flags_;
  bool trust_metadata_ = false;
  std::string type_ = "source";
  WriterFlags writer_;
};

}  // namespace

const CommandInfo kConvertCommand = {
    .name = "convert",
    .summary = "Turn a checkpoint into one GGUF file, nothing rounded",
    .usage = "convert [IN] [-o OUT] [-t source|f32|f16|bf16]",
    .examples =
        "  quern convert Llama-2-7b/ -o llama-2-7b.gguf          types as they are\n"
        "  quern convert Llama-2-7b/ -t f16 -o llama-2-7b.gguf   matrices as f16\n"
        "  quern convert Llama-2-7b/ | zstd > llama-2-7b.gguf.zst\n",
    .notes =
        "IN is a folder in Meta's layout (consolidated.NN.pth, params.json, tokenizer.model) or "
        "Hugging\n"
        "Face's (config.json, model*.safetensors or pytorch_model*.bin, tokenizer.model or "
        "tokenizer.json),\n"
        "one .pth or .safetensors file beside its configuration, or a GGUF file; without IN, a GGUF "
        "stream\n"
        "from standard input.\n"
        "With type source, matrices keep their type and vectors become f32.\n",
    .make = [] { return std::unique_ptr<Command>(std::make_unique<ConvertCommand>()); },
};

}  // namespace quern
