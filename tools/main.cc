// The executable: parses the command line, runs one command, words its errors.
//
// CLI11 splits the line into options and arguments; what they mean, every message about them and
// the exit codes are ours (its own codes never leave this file).
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <system_error>

#include "formats/core/error.h"
#include "quant/isa.h"
#include "tools/command.h"
#include "tools/help.h"
#include "tools/signals.h"
#include "tools/suggest.h"
#include "tools/terminal.h"
#include "tools/threads.h"

namespace quern {
namespace {

constexpr int kExitPipe = 141;  // As a shell sees a program that SIGPIPE ended.

void AddCommonFlags(CLI::App& app, CommonFlags& flags) {
  app.set_help_flag();  // Ours, so that -h works beside other mistakes.
  app.add_flag("-h,--help", flags.help, "Show this help");
  app.add_flag("--version", flags.version, "Show the version");
  app.add_flag("-q,--quiet", flags.quiet, "Only errors");
  app.add_flag("-v,--verbose", flags.verbose, "Say more of what is done");
  app.add_flag("--json{-}", flags.json,
               "Result as JSON to standard output, or to FILE with --json=FILE");
  app.add_option("--threads", flags.threads, "Threads to use (default: the processors available)")
      ->type_name("N");
  app.add_option("--memory", flags.memory, "Memory budget, for instance 512MiB")->type_name("SIZE");
  app.add_option(
         "--isa", flags.isa,
         fmt::format("Best instruction set to use: {}, or best", fmt::join(AllIsas(), ", ")))
      ->type_name("NAME");
  app.add_option("--progress", flags.progress, "Progress line: auto (on a terminal), always, never")
      ->type_name("WHEN");
  app.add_flag("--no-color", flags.no_color, "No colour (also: NO_COLOR in the environment)");
}

// Throws: Error kUsage for the first argument that nothing claimed.
void RefuseExtras(const CLI::App& app, const std::string& command) {
  for (const std::string& extra : app.remaining()) {
    if (extra == "--") continue;
    if (extra.size() > 1 && extra[0] == '-') {
      const std::string flag = extra.substr(0, extra.find('='));
      Error error = UsageError("usage.unknown-flag", "unknown flag " + Quoted(flag));
      const std::string nearest = NearestWord(flag, FlagNames(app));
      if (!nearest.empty())
        error.Hint(fmt::format("did you mean {}?", nearest));
      else if (!command.empty())
        error.Hint(fmt::format("see quern {} --help", command));
      throw error;
    }
    throw UsageError("usage.extra-argument", "unexpected argument " + Quoted(extra))
        .Hint(command.empty() ? "see quern --help" : fmt::format("see quern {} --help", command));
  }
}

// Parses `arguments` (in order) into `app`, which must allow extras.
void Parse(CLI::App& app, std::vector<std::string> arguments) {
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back.
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string text = error.what();  // "--text: 1 required FILE missing"
    const std::string flag = text.substr(0, text.find(':'));
    throw UsageError("usage.flag-value", flag.starts_with('-') ? flag + " needs a value" : text);
  } catch (const CLI::ParseError& error) {
    // Only misuse of an option's value can happen: everything is text and nothing is required.
    throw UsageError("usage.flag-value", Escaped(error.what(), 300));
  }
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

Terminal::Options TerminalOptions(const CommonFlags& flags) {
  if (flags.progress != "auto" && flags.progress != "always" && flags.progress != "never") {
    throw UsageError("usage.flag-value",
                     "--progress takes auto, always or never, not " + Quoted(flags.progress));
  }
  const bool on_terminal = IsTerminal(STDERR_FILENO);
  const char* no_color = std::getenv("NO_COLOR");
  return {.quiet = flags.quiet,
          .verbose = flags.verbose,
          .color = on_terminal && !flags.no_color && (no_color == nullptr || *no_color == '\0'),
          .progress = flags.progress == "always" ||
                      (flags.progress == "auto" && on_terminal && !flags.quiet)};
}

int RunCommand(const CommandInfo& info, CommonFlags& flags, std::vector<std::string> arguments,
               Terminal& terminal) {
  CLI::App app;
  app.allow_extras();
  AddCommonFlags(app, flags);
  const std::unique_ptr<Command> command = info.make();
  command->AddOptions(app);
  Parse(app, std::move(arguments));
  if (flags.help) {
    PrintOut(CommandHelp(info, app));
    return 0;
  }
  RefuseExtras(app, std::string(info.name));
  terminal.Configure(TerminalOptions(flags));
  if (!flags.isa.empty()) CapIsa(flags.isa);
  Session session{
      .terminal = terminal, .threads = AvailableThreads(), .memory_bytes = {}, .json = flags.json};
  if (!flags.threads.empty()) {
    session.threads = static_cast<unsigned>(ParseCount("--threads", flags.threads, 1, 1024));
  }
  if (!flags.memory.empty()) session.memory_bytes = ParseSize("--memory", flags.memory);
  return command->Run(session);
}

int Dispatch(std::vector<std::string> arguments, std::string& command_name,
             std::unique_ptr<Terminal>& terminal) {
  CommonFlags flags;
  CLI::App app;
  app.prefix_command();
  AddCommonFlags(app, flags);
  Parse(app, std::move(arguments));
  std::vector<std::string> rest = app.remaining();
  if (flags.version && rest.empty()) rest = {"version"};
  if (rest.empty()) {
    PrintOut(GeneralHelp(/*brief=*/!flags.help));
    return flags.help ? 0 : static_cast<int>(ErrorCode::kUsage);
  }
  if (rest[0].size() > 1 && rest[0][0] == '-') RefuseExtras(app, "");
  std::string name = rest[0];
  rest.erase(rest.begin());
  if (name == "help") {
    if (rest.empty()) {
      PrintOut(GeneralHelp(/*brief=*/false));
      return 0;
    }
    name = rest[0];
    if (name == "help" || name == "version") return PrintOut(GeneralHelp(false)), 0;
    rest = {"--help"};
  }
  if (name == "version") return PrintOut(VersionText(flags.json == "-" || !rest.empty())), 0;
  const CommandInfo& info = FindCommand(name);
  command_name = name;
  terminal = std::make_unique<Terminal>(name);
  if (flags.help) rest = {"--help"};
  return RunCommand(info, flags, std::move(rest), *terminal);
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
      throw Error(ErrorCode::kBug, "bug.exception", error.what())
          .Hint("this is a defect of quern; please report it with the command line");
    }
  } catch (const Error& error) {
    if (error.id() == "output.pipe") return kExitPipe;
    terminal->End();
    terminal->ShowError(error.what(), error.hint());
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
  quern::InstallSignalHandlers();
  return quern::Main(argc, argv);
}
