// The command line as a whole: which command with which flags, or which help. Parsing it does
// nothing else, so that any line can be tried.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/command.h"
#include "tools/flags.h"
#include "tools/terminal.h"

namespace quern {

class CommandLine {
 public:
  enum class Asks : uint8_t {
    kBriefHelp,    // nothing was asked
    kHelp,         // of the program
    kCommandHelp,  // of info()
    kVersion,
    kCommand,  // to run command()
  };

  CommandLine() = default;
  CommandLine(const CommandLine&) = delete;  // flags_ knows where common_ is
  CommandLine& operator=(const CommandLine&) = delete;

  // `arguments` are those behind the program's name. To be called once.
  // Throws: Error kUsage. Then info() tells whose flags are wrong, if that far was understood.
  void Parse(const std::vector<std::string>& arguments);

  Asks asks() const { return asks_; }
  const CommonFlags& common() const { return common_; }
  const CommandInfo* info() const { return info_; }  // null: no command was named
  // Requires: asks() is kCommandHelp or kCommand.
  const Flags& flags() const { return *flags_; }
  Command& command() const { return *command_; }

 private:
  void ParseCommand(const std::string& name, const std::vector<std::string>& arguments);

  Asks asks_ = Asks::kBriefHelp;
  CommonFlags common_;
  const CommandInfo* info_ = nullptr;
  std::unique_ptr<Command> command_;
  std::unique_ptr<Flags> flags_;
};

// Returns how the terminal is to be used. Throws: Error kUsage for a wrong --progress.
Terminal::Options TerminalOptionsOf(const CommonFlags& common);

// Returns the common flags, understood; all processors where --threads was not given.
// Throws: Error kUsage for a wrong --threads or --memory.
Session SessionOf(const CommonFlags& common, Terminal& terminal);

}  // namespace quern
