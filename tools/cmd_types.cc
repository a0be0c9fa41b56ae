// quern types: what quantize can write.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "quant/plan.h"
#include "tools/command.h"
#include "tools/io_args.h"
#include "tools/table.h"

namespace quern {
namespace {

class TypesCommand final : public Command {
 public:
  void AddOptions(CLI::App&) override {}

  int Run(Session& session) override {
    if (session.wants_json()) {
      nlohmann::ordered_json json;
      json["schema"] = "quern.types/1";
      for (const Preset& preset : AllPresets()) {
        nlohmann::ordered_json row = {{"name", preset.name}, {"description", preset.description}};
        if (preset.type) row["bits_per_weight"] = LayoutOf(*preset.type).bits_per_weight();
        json["types"].push_back(std::move(row));
      }
      WriteJson(session, json.dump(2));
      return 0;
    }
    Table table({{"type"}, {"bits/weight", Align::kRight}, {"for"}});
    for (const Preset& preset : AllPresets()) {
      table.AddRow(
          {std::string(preset.name),
           preset.type ? fmt::format("{:.4g}", LayoutOf(*preset.type).bits_per_weight()) : "",
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
    .notes = "",
    .make = [] { return std::unique_ptr<Command>(std::make_unique<TypesCommand>()); },
};

}  // namespace quern
