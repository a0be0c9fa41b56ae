// The executable: parses the command line, runs one command, words its errors.
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <new>
#include <optional>
#include <system_error>

#include "formats/core/error.h"
#include "quant/isa.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/help.h"
#include "tools/report_target.h"
#include "tools/signals.h"
#include "tools/terminal.h"
#include "tools/threads.h"

namespace quern {
namespace {

constexpr int kExitPipe = 141;  // As a shell sees a program that SIGPIPE ended.

int ShowVersion(const CommonFlags& common) {
  if (common.json.empty() || common.json == "-") {
    PrintOut(VersionText(/*as_json=*/!common.json.empty()));
  } else {
    WriteReport(common.json, kJsonSignature, VersionText(/*as_json=*/true), {});
  }
  return 0;
}

int RunCommand(const CommandLine& line, Terminal& terminal) {
  const CommonFlags& common = line.common();
  terminal.Configure(TerminalOptionsOf(common));
  if (!common.isa.empty()) CapIsa(common.isa);
  Session session = SessionOf(common, terminal);
  const unsigned startable = StartableThreads(session.threads);
  if (startable < session.threads) {
    terminal.Warn(fmt::format("the system starts no more threads: {} instead of {}", startable,
                              session.threads));
    session.threads = startable;
  }
  terminal.Info(fmt::format("instruction set {}, {} threads", CurrentIsa(), session.threads));
  return line.command().Run(session);
}

int Do(const CommandLine& line, Terminal& terminal) {
  switch (line.asks()) {
    case CommandLine::Asks::kBriefHelp:
      PrintOut(GeneralHelp(/*brief=*/true));
      return static_cast<int>(ErrorCode::kUsage);
    case CommandLine::Asks::kHelp:
      PrintOut(GeneralHelp(/*brief=*/false));
      return 0;
    case CommandLine::Asks::kCommandHelp:
      PrintOut(CommandHelp(*line.info(), line.flags()));
      return 0;
    case CommandLine::Asks::kVersion:
      return ShowVersion(line.common());
    case CommandLine::Asks::kCommand:
      break;
  }
  return RunCommand(line, terminal);
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
  CommandLine line;
  const auto command_name = [&] { return std::string(line.info() ? line.info()->name : ""); };
  std::optional<Terminal> terminal;
  try {
    try {
      line.Parse({argv + 1, argv + argc});
      terminal.emplace(command_name());
      return Do(line, *terminal);
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
    if (terminal) terminal->End();
    else terminal.emplace(command_name());
    terminal->ShowError(error.what(), HintOf(error, command_name()));
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
