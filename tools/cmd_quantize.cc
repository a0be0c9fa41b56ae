// quern quantize: any checkpoint or GGUF to a quantized GGUF, in one pass.

#include <algorithm>

#include "converters/converters.h"
#include "formats/core/ascii.h"
#include "formats/imatrix_file.h"
#include "quant/plan.h"
#include "quant/recipe.h"
#include "tools/command.h"
#include "tools/io_args.h"
#include "tools/pass.h"
#include "tools/suggest.h"

namespace quern {
namespace {

// Returns what llama-quantize records of an importance matrix, under its keys. Of files the output
// knows the name only, not where they lay.
// Source: llama.cpp, tools/quantize.
std::vector<MetadataEntry> MetadataOf(const Imatrix& imatrix, const std::string& path) {
  const auto base_name = [](std::string_view name) {
    return MetadataValue::Text(name.substr(name.find_last_of('/') + 1));
  };
  std::vector<MetadataEntry> metadata;
  metadata.push_back({"quantize.imatrix.file", base_name(path)});
  if (!imatrix.datasets.empty()) {
    metadata.push_back({"quantize.imatrix.dataset", base_name(imatrix.datasets[0])});
  }
  metadata.push_back({"quantize.imatrix.entries_count",
                      MetadataValue::U32(static_cast<uint32_t>(imatrix.entries.size()))});
  if (imatrix.n_chunks) {
    metadata.push_back({"quantize.imatrix.chunks_count", MetadataValue::U32(*imatrix.n_chunks)});
  }
  return metadata;
}

class QuantizeCommand final : public Command {
 public:
  void AddFlags(Flags& flags) override {
    flags.Argument("input", input_);
    writer_.AddTo(flags);
    flags.Value("-t,--type", type_, "TYPE",
                "Type or preset to quantize to (quern types lists them)");
    flags.Switch("--requantize", requantize_,
                 "Let tensors that are quantized already be quantized again (loses accuracy)");
    flags.Value("--effort", effort_, "EFFORT",
                "How hard to search for small errors: fast (ggml's bytes for q8_0, q4_0, q4_1, "
                "q5_0, q5_1, mxfp4), normal, best");
    flags.Switch("--pure", pure_, "Give every matrix the type, embedding and output included");
    flags.Switch("--keep-output", keep_output_, "Leave the output matrix in its type");
    flags.Value("--imatrix", imatrix_, "FILE",
                "Importance of columns, from llama.cpp's imatrix in either of its formats");
    flags.Values("--role", roles_, "ROLE=TYPE", "Type for all tensors of a role: " + RoleNames());
    flags.Values("--tensor", patterns_, "PATTERN=TYPE",
                 "Type for tensors whose name matches (* any run, ? any character)");
    flags.Value("--recipe", recipe_, "FILE",
                "Types from a file: a line ROLE = TYPE or PATTERN = TYPE each, # for remarks");
    source_flags_.AddTo(flags);
  }

  int Run(Session& session) override {
    CheckWriterFlags(writer_, session);
    if (type_.empty()) {
      throw UsageError("usage.type", "no type given")
          .Hint("for instance -t q4_0; quern types lists them");
    }
    if (FindPreset(type_) == nullptr) ThrowUnknownType();
    const CheckpointOptions options = source_flags_.Options(session);
    const std::string input = ResolveInput(input_);
    PlanOptions plan_options = MakePlanOptions();
    std::vector<MetadataEntry> metadata;
    if (!imatrix_.empty()) metadata = ReadImportance(plan_options);
    if (source_flags_.verify) VerifyInput(input, session);
    OpenedSource source = OpenSource(input, options);
    QuantPlan plan = MakePlanFor(source, type_, plan_options);
    plan.metadata = std::move(metadata);
    for (const std::string& file : {imatrix_, recipe_}) {
      if (!file.empty()) source.input_files.push_back(file);
    }
    return RunPass("quantize", source, plan, writer_, session);
  }

 private:
  // Splits "KEY=TYPE" and sets type and origin. Throws: Error kUsage.
  static std::string ParseOverride(const std::string& flag, const std::string& text,
                                   TypeOverride& override) {
    const size_t equals = text.rfind('=');
    if (equals == std::string::npos || equals == 0 || text[equals - 1] == '=') {
      throw UsageError("usage.override", flag + " wants a name, '=' and a type")
          .Found(Quoted(text));
    }
    const std::string type_name = text.substr(equals + 1);
    const auto type = DTypeFromName(type_name);
    if (!type || FindCodec(*type) == nullptr) {
      Error error = UsageError("usage.override", flag + " wants a type that quern can write");
      error.Found(Quoted(type_name)).Expected("one of " + CodecNames());
      if (!type && FindPreset(type_name) != nullptr) {
        error.Hint("a preset gives types to a whole model; one tensor has one type");
      }
      throw error;
    }
    const std::string name = text.substr(0, equals);
    override.type = *type;
    override.origin = flag + " " + Escaped(name);
    return name;
  }

  // Reads --imatrix into `options`. Returns what the output is to say of it.
  std::vector<MetadataEntry> ReadImportance(PlanOptions& options) const {
    Imatrix imatrix = ReadImatrix(imatrix_);
    std::vector<MetadataEntry> metadata = MetadataOf(imatrix, imatrix_);
    auto importance = std::make_shared<Importance>();
    importance->file = imatrix_;
    for (ImatrixEntry& entry : imatrix.entries) {
      importance->entries.emplace(std::move(entry.name), std::move(entry.values));
    }
    options.importance = std::move(importance);
    return metadata;
  }

  PlanOptions MakePlanOptions() const {
    PlanOptions options{.requantize = requantize_, .pure = pure_, .keep_output = keep_output_};
    // A tensor's own name counts before its role, the command line before the recipe.
    for (const std::string& text : patterns_) {
      TypeOverride& override = options.overrides.emplace_back();
      override.pattern = ParseOverride("--tensor", text, override);
    }
    for (const std::string& text : roles_) {
      TypeOverride& override = options.overrides.emplace_back();
      const std::string name = ParseOverride("--role", text, override);
      override.role = FindRole(name);
      if (!override.role) {
        throw UsageError("usage.override", "no such role")
            .Found(Quoted(name))
            .Expected("one of " + RoleNames());
      }
    }
    if (!recipe_.empty()) {
      const auto rules = ParseRecipe(ReadText(recipe_, kRecipeMaxBytes), recipe_);
      options.overrides.insert(options.overrides.end(), rules.begin(), rules.end());
    }
    constexpr std::pair<std::string_view, Effort> kEfforts[] = {
        {"fast", Effort::kFast}, {"normal", Effort::kNormal}, {"best", Effort::kBest}};
    const auto effort = std::ranges::find_if(
        kEfforts, [&](const auto& row) { return SameIgnoringCase(row.first, effort_); });
    if (effort == std::end(kEfforts)) {
      throw UsageError("usage.effort", "unknown effort")
          .Found(Quoted(effort_))
          .Expected("fast, normal or best");
    }
    options.effort = effort->second;
    return options;
  }

  [[noreturn]] void ThrowUnknownType() const {
    std::vector<std::string> names;
    for (const Preset& preset : AllPresets()) names.emplace_back(preset.name);
    const std::string nearest = NearestWord(type_, names);
    throw UsageError("usage.type", "unknown type " + Quoted(type_))
        .Hint(nearest.empty() ? "quern types lists them"
                              : "did you mean " + nearest + "? (quern types lists all)");
  }

  SourceFlags source_flags_;
  std::string input_, type_, imatrix_, recipe_, effort_ = "normal";
  std::vector<std::string> roles_, patterns_;
  bool requantize_ = false, pure_ = false, keep_output_ = false;
  WriterFlags writer_;
};

}  // namespace

const CommandInfo kQuantizeCommand = {
    .name = "quantize",
    .summary = "Turn a checkpoint or GGUF into a quantized GGUF, in one pass",
    .usage = "quantize [IN] -t TYPE [-o OUT]",
    .examples =
        "  quern quantize Llama-2-7b/ -t q4_0 -o q4_0.gguf       straight from a folder\n"
        "  quern quantize llama-2-7b.gguf -t q8_0 -o q8_0.gguf   from a GGUF file\n"
        "  quern convert Llama-2-7b/ | quern quantize -t q4_0 > q4_0.gguf\n"
        "  quern quantize Llama-2-7b/ -t q4_0 -n --explain       each tensor's type, and the size; "
        "writes nothing\n"
        "  quern quantize m.gguf -t q4_k --imatrix m.imatrix -o q4_k.gguf\n"
        "  quern quantize m.gguf -t q4_k --role attn_v=q6_k --tensor 'blk.0.*=q8_0' -o "
        "mixed.gguf\n",
    .notes =
        "IN is whatever quern convert reads; without IN, a GGUF stream from standard input. "
        "Matrices get the\n"
        "type, vectors stay f32. The output's bytes depend on input, flags and version only.\n"
        "For single tensors --tensor counts before --role, both before --recipe, all before the "
        "type. A recipe\n"
        "is a text file, the first rule that matches wins:\n"
        "  # remark\n"
        "  attn_v = q6_k\n"
        "  blk.0.* = q8_0\n",
    .make = [] { return std::unique_ptr<Command>(std::make_unique<QuantizeCommand>()); },
};

}  // namespace quern
