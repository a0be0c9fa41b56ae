// quern types: what quantize can write.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "quant/codec.h"
#include "quant/plan.h"
#include "tools/command.h"
#include "tools/io_args.h"
#include "tools/report_target.h"
#include "tools/table.h"

namespace quern {
namespace {

// What a preset costs on the fixture of tests/data.
struct Measured {
  std::string_view preset;
  double perplexity_ratio;  // over that of the checkpoint itself
  double mean_kld;          // from it. Units: nats.
};
constexpr Measured kMeasured[] = {
#include "tools/measured_types.inc"
};

const Measured* FindMeasured(std::string_view preset) {
  const auto found = std::ranges::find(kMeasured, preset, &Measured::preset);
  return found != std::end(kMeasured) ? &*found : nullptr;
}

// What a block type is for.
struct Purpose {
  DType type;
  std::string_view text;
};
constexpr Purpose kPurposes[] = {
    {DType::kF32, "nothing is rounded"},
    {DType::kF16, "half precision, up to 65504"},
    {DType::kBF16, "half the size of f32 with its range"},
    {DType::kQ4_0, "four bits and a scale"},
    {DType::kQ4_1, "four bits, a scale and a minimum"},
    {DType::kQ5_0, "five bits and a scale"},
    {DType::kQ5_1, "five bits, a scale and a minimum"},
    {DType::kQ8_0, "eight bits and a scale, practically lossless"},
    {DType::kQ2_K, "two bits with small scales and minima"},
    {DType::kQ3_K, "three bits with small scales"},
    {DType::kQ4_K, "four bits with small scales and minima"},
    {DType::kQ5_K, "five bits with small scales and minima"},
    {DType::kQ6_K, "six bits with small scales, very close to lossless"},
    {DType::kIQ4_NL, "four bits from a codebook"},
    {DType::kIQ4_XS, "four bits from a codebook, small scales"},
    {DType::kMXFP4, "four-bit floating point with shared exponents"},
};

std::string_view PurposeOf(DType type) {
  const auto found = std::ranges::find(kPurposes, type, &Purpose::type);
  return found != std::end(kPurposes) ? found->text : "";
}

// The shapes of Llama 2 7B, for which bits per weight are counted.
Manifest LlamaManifest() {
  constexpr uint64_t kModel = 4096, kHidden = 11008, kVocabulary = 32000;
  Manifest manifest;
  const auto add = [&](std::string name, TensorRole role, std::optional<uint32_t> layer,
                       Shape shape) {
    manifest.tensors.push_back({std::move(name), role, layer, DType::kF16, shape});
  };
  using enum TensorRole;
  add("token_embd.weight", kTokenEmbedding, {}, {kVocabulary, kModel});
  for (uint32_t layer = 0; layer < 32; ++layer) {
    const std::string prefix = fmt::format("blk.{}.", layer);
    add(prefix + "attn_norm.weight", kAttnNorm, layer, {kModel});
    for (const auto& [name, role] : {std::pair{"attn_q", kAttnQ},
                                     {"attn_k", kAttnK},
                                     {"attn_v", kAttnV},
                                     {"attn_output", kAttnOutput}}) {
      add(prefix + name + ".weight", role, layer, {kModel, kModel});
    }
    add(prefix + "ffn_norm.weight", kFfnNorm, layer, {kModel});
    add(prefix + "ffn_gate.weight", kFfnGate, layer, {kHidden, kModel});
    add(prefix + "ffn_up.weight", kFfnUp, layer, {kHidden, kModel});
    add(prefix + "ffn_down.weight", kFfnDown, layer, {kModel, kHidden});
  }
  add("output_norm.weight", kOutputNorm, {}, {kModel});
  add("output.weight", kOutput, {}, {kVocabulary, kModel});
  return manifest;
}

// Returns the bits per weight of a whole model in that preset.
double BitsPerWeight(const Preset& preset) {
  static const Manifest model = LlamaManifest();
  const Manifest quantized = MakePlan(model, preset.name).Apply(model);
  return 8.0 * static_cast<double>(quantized.tensor_bytes()) /
         static_cast<double>(quantized.n_elems());
}

class TypesCommand final : public Command {
 public:
  void AddFlags(Flags&) override {}

  int Run(Session& session) override {
    session.wants_json() ? WriteJson(session, ToJson().dump(2)) : PrintOut(ToText());
    return 0;
  }

 private:
  static nlohmann::ordered_json ToJson() {
    nlohmann::ordered_json json;
    json["schema"] = "quern.types/1";
    for (const Preset& preset : AllPresets()) {
      nlohmann::ordered_json row = {{"name", preset.name}, {"description", preset.description}};
      for (const PresetAlias& alias : PresetAliases()) {
        if (alias.preset == preset.name) row["aliases"].push_back(alias.alias);
      }
      if (preset.type) {
        row["matrix_type"] = NameOf(*preset.type);
        row["bits_per_weight"] = BitsPerWeight(preset);
      }
      if (const Measured* measured = FindMeasured(preset.name)) {
        row["fixture_perplexity_ratio"] = measured->perplexity_ratio;
        row["fixture_mean_kld_nats"] = measured->mean_kld;
      }
      json["types"].push_back(std::move(row));
    }
    for (const BlockCodec* codec : AllCodecs()) {
      const BlockLayout& layout = LayoutOf(codec->type);
      json["block_types"].push_back({{"block_type", layout.name},
                                     {"description", PurposeOf(codec->type)},
                                     {"bits_per_weight", layout.bits_per_weight()},
                                     {"block_weights", layout.block_elems},
                                     {"block_bytes", layout.block_bytes}});
    }
    return json;
  }

  static std::string ToText() {
    Table presets({{"type"},
                   {"bits/weight", Align::kRight},
                   {"perplexity", Align::kRight},
                   {"KLD", Align::kRight},
                   {"for"}});
    for (const Preset& preset : AllPresets()) {
      const Measured* measured = FindMeasured(preset.name);
      std::string description(preset.description);
      for (const PresetAlias& alias : PresetAliases()) {
        if (alias.preset == preset.name) description += fmt::format(" (also: {})", alias.alias);
      }
      presets.AddRow(
          {std::string(preset.name), preset.type ? fmt::format("{:.2f}", BitsPerWeight(preset)) : "",
           measured != nullptr ? fmt::format("{:+.2f} %", 100 * (measured->perplexity_ratio - 1))
                               : "",
           measured != nullptr ? fmt::format("{:.5f}", measured->mean_kld) : "", description});
    }
    Table blocks({{"block type"},
                  {"bits/weight", Align::kRight},
                  {"weights", Align::kRight},
                  {"bytes", Align::kRight},
                  {"for"}});
    for (const BlockCodec* codec : AllCodecs()) {
      const BlockLayout& layout = LayoutOf(codec->type);
      blocks.AddRow({std::string(layout.name), fmt::format("{:.4g}", layout.bits_per_weight()),
                     fmt::format("{}", layout.block_elems), fmt::format("{}", layout.block_bytes),
                     std::string(PurposeOf(codec->type))});
    }
    return presets.ToString() + "\nfor single tensors (--role, --tensor, --recipe):\n" +
           blocks.ToString();
  }
};

}  // namespace

const CommandInfo kTypesCommand = {
    .name = "types",
    .summary = "List the types that quantize can write",
    .usage = "types [--json]",
    .examples = "  quern types\n",
    .notes =
        "The first list is for -t. bits/weight are those of a Llama 2 7B as a whole. perplexity "
        "and KLD (the\n"
        "divergence from the checkpoint itself, in nats per token) were measured on the small "
        "model in\n"
        "tests/data; large models lose less. Rows that a block type does not divide get another "
        "type.\n",
    .make = [] { return std::unique_ptr<Command>(std::make_unique<TypesCommand>()); },
};

}  // namespace quern
