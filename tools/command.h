// What a subcommand is, and what it may use while it runs.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/core/error.h"
#include "tools/flags.h"
#include "tools/terminal.h"

namespace quern {

// The flags common to all commands, as typed.
struct CommonFlags {
  bool help = false;
  bool version = false;
  bool quiet = false;
  bool verbose = false;
  bool no_color = false;
  std::string json;  // empty: none; "-": standard output; else a file
  std::string threads, memory, isa;
  std::string progress = "auto";
};

// The same, understood. One per run of the program.
struct Session {
  Terminal& terminal;
  unsigned threads = 1;
  std::optional<uint64_t> memory_bytes;  // nothing: the command's own default
  std::string json;                      // as in CommonFlags
  std::vector<std::string> used_files;   // that the command reads and writes (UseFiles)

  bool wants_json() const { return !json.empty(); }
};

class Command {
 public:
  virtual ~Command() = default;
  // Adds the command's own options and arguments. Options are parsed as text and understood in
  // Run, so that every message about them is ours.
  virtual void AddFlags(Flags& flags) = 0;
  // Returns the exit code: 0, or 1 for a question answered with no. Throws: Error.
  virtual int Run(Session& session) = 0;
};

struct CommandInfo {
  std::string_view name;
  std::string_view summary;   // one line
  std::string_view usage;     // after "quern "
  std::string_view examples;  // lines "  quern …" with a remark each
  std::string_view notes;     // paragraphs after the options; may be empty
  std::unique_ptr<Command> (*make)();
};

// Returns the table of commands, in the order in which help lists them.
std::span<const CommandInfo* const> AllCommands();

// One per cmd_*.cc.
extern const CommandInfo kConvertCommand, kQuantizeCommand, kInspectCommand, kCheckCommand,
    kDiffCommand, kPerplexityCommand, kMergeCommand, kImatrixCommand, kTypesCommand, kPackCommand,
    kUnpackCommand;

// Returns an error of code kUsage. `hint` may be empty; then it points to the help.
Error UsageError(std::string_view id, std::string_view what);

// Returns the number in `text`, which must be a decimal integer in [minimum, maximum].
// Throws: Error kUsage naming `flag`.
uint64_t ParseCount(std::string_view flag, std::string_view text, uint64_t minimum,
                    uint64_t maximum);

// Returns the number in `text`, which must be above `above` and at most `maximum`.
// Throws: Error kUsage naming `flag`.
double ParseNumber(std::string_view flag, std::string_view text, double above, double maximum);

// Returns the bytes in `text`: a decimal number with an optional unit (KiB, MiB, GiB, TiB, or
// K, M, G, T meaning the same; kB, MB, GB, TB are powers of ten).
// Throws: Error kUsage naming `flag`.
uint64_t ParseSize(std::string_view flag, std::string_view text);

}  // namespace quern
