#include "tools/command_line.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cstdlib>

#include "formats/core/error.h"
#include "quant/isa.h"
#include "tools/suggest.h"
#include "tools/threads.h"

namespace quern {
namespace {

void AddCommonFlags(Flags& flags, CommonFlags& common) {
  flags.BeginCommon();
  flags.Switch("-h,--help", common.help, "Show this help");
  flags.Switch("--version", common.version, "Show the version and do nothing else");
  flags.Switch("-q,--quiet", common.quiet, "Only errors");
  flags.Switch("-v,--verbose", common.verbose, "Say more of what is done");
  flags.ValueOr("--json", "-", common.json, "FILE",
                "Result as JSON to standard output, or to FILE with --json=FILE");
  flags.Value("--threads", common.threads, "N",
              "Threads to use (default: the processors available)");
  flags.Value("--memory", common.memory, "SIZE", "Memory budget, for instance 512MiB");
  flags.Value("--isa", common.isa, "NAME",
              fmt::format("Best instruction set to use: {}, or best", fmt::join(AllIsas(), ", ")));
  flags.Value("--progress", common.progress, "WHEN",
              "Progress line: auto (on a terminal), always, never");
  flags.Switch("--no-color", common.no_color, "No colour (also: NO_COLOR in the environment)");
}

const CommandInfo& FindCommand(const std::string& name) {
  std::vector<std::string> names = {"help", "version"};
  for (const CommandInfo* info : AllCommands()) {
    if (info->name == name) return *info;
    names.emplace_back(info->name);
  }
  const std::string nearest = NearestWord(name, names);
  throw UsageError("usage.unknown-command", "unknown command " + Quoted(name))
      .Hint(nearest.empty() ? "see quern --help" : fmt::format("did you mean quern {}?", nearest));
}

}  // namespace

void CommandLine::Parse(const std::vector<std::string>& arguments) {
  Flags leading;
  AddCommonFlags(leading, common_);
  std::vector<std::string> rest = leading.ParseLeading(arguments);
  if (rest.empty()) {
    if (common_.version)
      asks_ = Asks::kVersion;
    else
      asks_ = common_.help ? Asks::kHelp : Asks::kBriefHelp;
    return;
  }
  std::string name = rest[0];
  rest.erase(rest.begin());
  if (name == "help") {
    if (rest.empty() || rest[0] == "help" || rest[0] == "version") {
      asks_ = Asks::kHelp;
      return;
    }
    name = rest[0];
    rest = {"--help"};
  }
  ParseCommand(name, rest);
}

void CommandLine::ParseCommand(const std::string& name, const std::vector<std::string>& arguments) {
  flags_ = std::make_unique<Flags>();
  // `quern version` is no row of the table: it does no work.
  const bool is_version = name == "version";
  if (!is_version) {
    info_ = &FindCommand(name);
    command_ = info_->make();
    command_->AddFlags(*flags_);
  }
  AddCommonFlags(*flags_, common_);
  flags_->Parse(arguments, name);
  if (common_.help)
    asks_ = is_version ? Asks::kHelp : Asks::kCommandHelp;
  else
    asks_ = is_version || common_.version ? Asks::kVersion : Asks::kCommand;
}

Terminal::Options TerminalOptionsOf(const CommonFlags& common) {
  if (common.progress != "auto" && common.progress != "always" && common.progress != "never") {
    throw UsageError("usage.flag-value",
                     "--progress takes auto, always or never, not " + Quoted(common.progress));
  }
  const auto environment = [](const char* name) -> std::string_view {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  // A dumb terminal shows escape sequences as they are.
  const bool on_terminal = IsTerminal(STDERR_FILENO) && environment("TERM") != "dumb";
  return {.quiet = common.quiet,
          .verbose = common.verbose,
          .color = on_terminal && !common.no_color && environment("NO_COLOR").empty(),
          .progress = common.progress == "always" ||
                      (common.progress == "auto" && on_terminal && !common.quiet)};
}

Session SessionOf(const CommonFlags& common, Terminal& terminal) {
  Session session{.terminal = terminal,
                  .threads = AvailableThreads(),
                  .memory_bytes = {},
                  .json = common.json,
                  .used_files = {}};
  if (!common.threads.empty()) {
    session.threads = static_cast<unsigned>(ParseCount("--threads", common.threads, 1, 1024));
  }
  if (!common.memory.empty()) session.memory_bytes = ParseSize("--memory", common.memory);
  return session;
}

}  // namespace quern
