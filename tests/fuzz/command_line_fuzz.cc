// Command lines: arguments as bytes, each ended by NUL as in /proc/PID/cmdline. They are parsed,
// shown as help, and run with inputs that do not exist, so that commands understand their own
// flags.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "formats/core/error.h"
#include "tools/command_line.h"
#include "tools/help.h"

namespace quern {
namespace {

// Nothing from a command line may reach a terminal as a control sequence, nor flood it.
void RequireShowable(std::string_view text) {
  constexpr size_t kMostBytes = 40000;  // two paths of 4,096 bytes, each byte as \xNN
  const auto is_control = [](char c) { return (c >= 0 && c < ' ') || c == 0x7F; };
  if (text.size() > kMostBytes || std::ranges::any_of(text, is_control)) std::abort();
}

// Commands read and print as if from and to nowhere.
bool SilenceStreams() {
  return std::freopen("/dev/null", "r", stdin) != nullptr &&
         std::freopen("/dev/null", "w", stdout) != nullptr;
}

std::vector<std::string> ArgumentsIn(std::string_view bytes) {
  std::vector<std::string> arguments;
  while (!bytes.empty()) {
    const size_t end = std::min(bytes.find('\0'), bytes.size());
    arguments.emplace_back(bytes.substr(0, end));
    bytes.remove_prefix(std::min(end + 1, bytes.size()));
    // No path leads out of the working folder.
    std::ranges::replace(arguments.back(), '/', '_');
  }
  return arguments;
}

void Run(const CommandLine& line) {
  Terminal terminal("fuzz");
  TerminalOptionsOf(line.common());
  terminal.Configure({.quiet = true});
  Session session = SessionOf(line.common(), terminal);
  session.threads = 1;
  if (session.wants_json()) session.json = "-";  // no file
  try {
    line.command().Run(session);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kBug) std::abort();
    throw;
  }
}

void Try(const CommandLine& line) {
  switch (line.asks()) {
    case CommandLine::Asks::kBriefHelp:
    case CommandLine::Asks::kHelp:
      if (GeneralHelp(line.asks() == CommandLine::Asks::kBriefHelp).empty()) std::abort();
      break;
    case CommandLine::Asks::kCommandHelp:
      if (CommandHelp(*line.info(), line.flags()).empty()) std::abort();
      break;
    case CommandLine::Asks::kVersion:
      if (VersionText(line.common().json.empty()).empty()) std::abort();
      break;
    case CommandLine::Asks::kCommand:
      Run(line);
  }
}

}  // namespace
}  // namespace quern

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quern;
  [[maybe_unused]] static const bool silenced = SilenceStreams();
  const std::vector<std::string> arguments =
      ArgumentsIn(std::string_view(reinterpret_cast<const char*>(data), size));
  CommandLine line;
  bool is_parsed = false;
  try {
    line.Parse(arguments);
    is_parsed = true;
    Try(line);
  } catch (const Error& error) {
    // Only what the line says can be wrong with it.
    if (!is_parsed && error.code() != ErrorCode::kUsage) std::abort();
    RequireShowable(error.what());
    RequireShowable(error.hint());
  }
  return 0;
}
