#include "tools/help.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "quant/isa.h"
#include "tools/version.h"

namespace quern {
namespace {

// Flags that every command has; listed after its own.
const std::set<std::string> kCommonFlags = {"help",    "version", "quiet", "verbose",  "json",
                                            "threads", "memory",  "isa",   "progress", "no-color"};

std::string JoinedNames(const auto& names) { return fmt::format("{}", fmt::join(names, ", ")); }

std::string FlagText(const CLI::Option& option) {
  std::string text;
  for (const std::string& name : option.get_snames()) text += "-" + name;
  for (const std::string& name : option.get_lnames())
    text += (text.empty() ? "" : ", ") + ("--" + name);
  if (option.check_lname("json")) return text + "[=FILE]";
  if (option.get_type_size() != 0) text += " " + option.get_type_name();
  return text;
}

void AppendFlags(const CLI::App& app, bool common, std::string& out) {
  std::vector<std::pair<std::string, std::string>> rows;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) continue;
    const bool is_common =
        !option->get_lnames().empty() && kCommonFlags.contains(option->get_lnames()[0]);
    if (is_common == common) rows.emplace_back(FlagText(*option), option->get_description());
  }
  size_t width = 0;
  for (const auto& row : rows) width = std::max(width, row.first.size());
  for (const auto& [flag, description] : rows)
    out += fmt::format("  {:<{}}  {}\n", flag, width, description);
}

}  // namespace

std::vector<std::string> FlagNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

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

std::string CommandHelp(const CommandInfo& info, const CLI::App& app) {
  std::string out = fmt::format("quern {}: {}\n\nUsage: quern {}\n\nExamples:\n{}\n", info.name,
                                info.summary, info.usage, info.examples);
  std::string own;
  AppendFlags(app, false, own);
  if (!own.empty()) out += "Flags:\n" + own + "\n";
  out += "Common flags:\n";
  AppendFlags(app, true, out);
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
