// quern types: what quantize can write.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

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

class TypesCommand final : public Command {
 public:
  void AddFlags(Flags&) override {}

  int Run(Session& session) override {
    if (session.wants_json()) {
      nlohmann::ordered_json json;
      json["schema"] = "quern.types/1";
      for (const Preset& preset : AllPresets()) {
        nlohmann::ordered_json row = {{"name", preset.name}, {"description", preset.description}};
        if (preset.type) row["bits_per_weight"] = LayoutOf(*preset.type).bits_per_weight();
        if (const Measured* measured = FindMeasured(preset.name)) {
          row["fixture_perplexity_ratio"] = measured->perplexity_ratio;
          row["fixture_mean_kld_nats"] = measured->mean_kld;
        }
        json["types"].push_back(std::move(row));
      }
      WriteJson(session, json.dump(2));
      return 0;
    }
    Table table({{"type"},
                 {"bits/weight", Align::kRight},
                 {"perplexity", Align::kRight},
                 {"KLD", Align::kRight},
                 {"for"}});
    for (const Preset& preset : AllPresets()) {
      const Measured* measured = FindMeasured(preset.name);
      table.AddRow(
          {std::string(preset.name),
           preset.type ? fmt::format("{:.4g}", LayoutOf(*preset.type).bits_per_weight()) : "",
           measured != nullptr ? fmt::format("{:+.2f} %", 100 * (measured->perplexity_ratio - 1))
                               : "",
           measured != nullptr ? fmt::format("{:.5f}", measured->mean_kld) : "",
           std::string(preset.description)});
    }
    PrintOut(table.ToString());
    return 0;
  }
};

}  // namespace

const CommandInfo kTypesCommand = {
    .name = "types",
    .summary = "List the types that quantize can write",
    .usage = "types [--json]",
    .examples = "  quern types\n",
    .notes =
        "bits/weight are those of the type that most matrices get. perplexity and KLD (the "
        "divergence "
        "from the\n"
        "checkpoint itself, in nats per token) were measured on the small model in tests/data; "
        "large "
        "models lose less.\n",
    .make = [] { return std::unique_ptr<Command>(std::make_unique<TypesCommand>()); },
};

}  // namespace quern
