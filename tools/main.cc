// The executable: parses the command line, runs one command, words its errors.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <new>
#include <system_error>

#include "formats/core/error.h"
#include "quant/isa.h"
#include "tools/command.h"
#include "tools/help.h"
#include "tools/report_target.h"
#include "tools/signals.h"
#include "tools/suggest.h"
#include "tools/terminal.h"
#include "tools/threads.h"

namespace quern {
namespace {

constexpr int kExitPipe = 141;  // As a shell sees a program that SIGPIPE ended.

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

Terminal::Options TerminalOptions(const CommonFlags& common) {
  if (common.progress != "auto" && common.progress != "always" && common.progress != "never") {
    throw UsageError("usage.flag-value",
                     "--progress takes auto, always or never, not " + Quoted(common.progress));
  }
  const bool on_terminal = IsTerminal(STDERR_FILENO);
  const char* no_color = std::getenv("NO_COLOR");
  return {.quiet = common.quiet,
          .verbose = common.verbose,
          .color = on_terminal && !common.no_color && (no_color == nullptr || *no_color == '\0'),
          .progress = common.progress == "always" ||
                      (common.progress == "auto" && on_terminal && !common.quiet)};
}

int ShowVersion(const CommonFlags& common) {
  if (common.json.empty() || common.json == "-") {
    PrintOut(VersionText(/*as_json=*/!common.json.empty()));
  } else {
    WriteReport(common.json, kJsonSignature, VersionText(/*as_json=*/true), {});
  }
  return 0;
}

int RunCommand(const CommandInfo& info, CommonFlags& common,
               const std::vector<std::string>& arguments, Terminal& terminal) {
  Flags flags;
  const std::unique_ptr<Command> command = info.make();
  command->AddFlags(flags);
  AddCommonFlags(flags, common);
  flags.Parse(arguments, info.name);
  if (common.help) {
    PrintOut(CommandHelp(info, flags));
    return 0;
  }
  if (common.version) return ShowVersion(common);
  terminal.Configure(TerminalOptions(common));
  if (!common.isa.empty()) CapIsa(common.isa);
  Session session{.terminal = terminal,
                  .threads = AvailableThreads(),
                  .memory_bytes = {},
                  .json = common.json,
                  .used_files = {}};
  if (!common.threads.empty()) {
    session.threads = static_cast<unsigned>(ParseCount("--threads", common.threads, 1, 1024));
  }
  const unsigned startable = StartableThreads(session.threads);
  if (startable < session.threads) {
    terminal.Warn(fmt::format("the system starts no more threads: {} instead of {}", startable,
                              session.threads));
    session.threads = startable;
  }
  if (!common.memory.empty()) session.memory_bytes = ParseSize("--memory", common.memory);
  terminal.Info(fmt::format("instruction set {}, {} threads", CurrentIsa(), session.threads));
  return command->Run(session);
}

// `quern version`, which is no row of the table: it does no work.
int RunVersion(CommonFlags& common, const std::vector<std::string>& arguments) {
  Flags flags;
  AddCommonFlags(flags, common);
  flags.Parse(arguments, "version");
  return common.help ? (PrintOut(GeneralHelp(/*brief=*/false)), 0) : ShowVersion(common);
}

int Dispatch(const std::vector<std::string>& arguments, std::string& command_name,
             std::unique_ptr<Terminal>& terminal) {
  CommonFlags common;
  Flags leading;
  AddCommonFlags(leading, common);
  std::vector<std::string> rest = leading.ParseLeading(arguments);
  if (rest.empty() && common.version) return ShowVersion(common);
  if (rest.empty()) {
    PrintOut(GeneralHelp(/*brief=*/!common.help));
    return common.help ? 0 : static_cast<int>(ErrorCode::kUsage);
  }
  std::string name = rest[0];
  rest.erase(rest.begin());
  if (name == "help") {
    if (rest.empty() || rest[0] == "help" || rest[0] == "version") {
      PrintOut(GeneralHelp(/*brief=*/false));
      return 0;
    }
    name = rest[0];
    rest = {"--help"};
  }
  if (name == "version") return RunVersion(common, rest);
  const CommandInfo& info = FindCommand(name);
  command_name = name;
  terminal = std::make_unique<Terminal>(name);
  return RunCommand(info, common, rest, *terminal);
}

// Returns what to do about an error that does not say so itself.
std::string HintOf(const Error& error, const std::string& command) {
  if (!error.hint().empty()) return error.hint();
  switch (error.code()) {
    case ErrorCode::kUsage:
      return command.empty() ? "see quern --help" : fmt::format("see quern {} --help", command);
    case ErrorCode::kData:
      return "the input is damaged, or its maker erred: fetch it or make it again" +
             std::string(command == "check" ? "" : " (quern check lists all faults)");
    case ErrorCode::kUnsupported:
      return "see quern help convert for what is read";
    case ErrorCode::kSystem:
      return "see that the path is right and may be used by you";
    case ErrorCode::kMemory:
      return "give a larger --memory";
    case ErrorCode::kUndecided:
    case ErrorCode::kBug:
      break;
  }
  return "";
}

int RunAndWordErrors(int argc, char** argv) {
  std::string command_name;
  auto terminal = std::make_unique<Terminal>("");
  try {
    try {
      return Dispatch({argv + 1, argv + argc}, command_name, terminal);
    } catch (const Error&) {
      throw;
    } catch (const std::bad_alloc&) {
      throw Error(ErrorCode::kMemory, "memory.system", "the system has no memory left")
          .Hint("give a smaller --memory, or run on a machine with more");
    } catch (const std::system_error& error) {
      throw Error(ErrorCode::kSystem, "system.refused", error.what())
          .Hint("the limits of the process may be too low: ulimit -a shows them");
    } catch (const std::exception& error) {
      // What oneTBB throws where it cannot start a thread is of no finer type.
      if (std::string_view(error.what()).starts_with("pthread_")) {
        throw Error(ErrorCode::kSystem, "system.refused", error.what())
            .Hint("the limits of the process may be too low: ulimit -a shows them");
      }
      throw Error(ErrorCode::kBug, "bug.exception", error.what())
          .Hint("this is a defect of quern; please report it with the command line");
    }
  } catch (const Error& error) {
    if (error.id() == "output.pipe") return kExitPipe;
    terminal->End();
    terminal->ShowError(error.what(), HintOf(error, command_name));
    return static_cast<int>(error.code());
  }
}

int Main(int argc, char** argv) {
  try {
    return RunAndWordErrors(argc, argv);
  } catch (const std::bad_alloc&) {  // Not even for a message.
    constexpr std::string_view kMessage = "quern: error: the system has no memory left\n";
    std::fwrite(kMessage.data(), 1, kMessage.size(), stderr);
    return static_cast<int>(ErrorCode::kMemory);
  }
}

}  // namespace
}  // namespace quern

int main(int argc, char** argv) {
  quern::OccupyStandardDescriptors();
  quern::AnswerSignals();
  return quern::Main(argc, argv);
}
