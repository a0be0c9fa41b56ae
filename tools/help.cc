#include "tools/help.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "quant/isa.h"
#include "tools/version.h"

namespace quern {
namespace {

std::string JoinedNames(const auto& names) { return fmt::format("{}", fmt::join(names, ", ")); }

void AppendRows(const Flags& flags, bool common, std::string& out) {
  std::vector<Flags::Row> rows = flags.Rows();
  std::erase_if(rows, [&](const Flags::Row& row) { return row.common != common; });
  size_t width = 0;
  for (const Flags::Row& row : rows) width = std::max(width, row.flag.size());
  for (const Flags::Row& row : rows) {
    out += fmt::format("  {:<{}}  {}\n", row.flag, width, row.description);
  }
}

}  // namespace

std::string GeneralHelp(bool brief) {
  std::string out =
      "quern: turn a Llama checkpoint into a small single-file model, and prove that it still "
      "works\n"
      "\n"
      "Examples:\n"
      "  quern convert Llama-2-7b/ -o llama-2-7b.gguf         a folder of shards to one GGUF "
      "file, nothing rounded\n"
      "  quern quantize Llama-2-7b/ -t q4_0 -o q4_0.gguf      the same, quantized, in one pass\n"
      "  quern perplexity q4_0.gguf --text wiki.test.raw      how well it predicts a text\n"
      "  quern inspect q4_0.gguf                              what is in a file or folder\n"
      "\n"
      "Commands:\n";
  for (const CommandInfo* info : AllCommands())
    out += fmt::format("  {:<11} {}\n", info->name, info->summary);
  out += fmt::format("  {:<11} {}\n", "help",
                     "Show this help, or that of a command: quern help convert");
  out += fmt::format("  {:<11} {}\n", "version", "Show version, instruction sets and libraries");
  if (brief) return out + "\nSee quern CMD --help for a command's flags.\n";
  return out +
         "\n"
         "Standard output carries the model or the requested report, nothing else; messages go to "
         "standard\n"
         "error. \"-\" is standard input or output.\n"
         "\n"
         "Exit codes:\n"
         "  0  done, or the answer is yes          5  the system refused (missing, permission, "
         "disk full, exists)\n"
         "  1  the answer is no                    6  the gates could not be decided on this text\n"
         "  2  command line wrong                  7  does not fit in --memory\n"
         "  3  input damaged or hostile           70  a defect of quern\n"
         "  4  input valid, not supported         130, 143, 141  interrupted, terminated, pipe "
         "closed\n";
}

std::string CommandHelp(const CommandInfo& info, const Flags& flags) {
  std::string out = fmt::format("quern {}: {}\n\nUsage: quern {}\n\nExamples:\n{}\n", info.name,
                                info.summary, info.usage, info.examples);
  std::string own;
  AppendRows(flags, false, own);
  if (!own.empty()) out += "Flags:\n" + own + "\n";
  out += "Common flags:\n";
  AppendRows(flags, true, out);
  if (!info.notes.empty()) out += fmt::format("\n{}", info.notes);
  return out;
}

std::string VersionText(bool as_json) {
  if (as_json) {
    nlohmann::ordered_json json;
    json["schema"] = "quern.version/1";
    json["version"] = kVersion;
    json["isa"] = CurrentIsa();
    json["isa_supported"] = SupportedIsas();
    for (const auto& [name, version] : LibraryVersions()) json["libraries"][name] = version;
    return json.dump(2) + "\n";
  }
  std::string out =
      fmt::format("quern {}\ninstruction set: {} (this machine has {})\nlibraries:", kVersion,
                  CurrentIsa(), JoinedNames(SupportedIsas()));
  for (const auto& [name, version] : LibraryVersions()) out += fmt::format(" {} {}", name, version);
  return out + "\n";
}

}  // namespace quern
