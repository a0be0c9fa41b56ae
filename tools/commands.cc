// The table of subcommands: the one place to register a new one.
#include "tools/command.h"

namespace quern {

std::span<const CommandInfo* const> AllCommands() {
  static constexpr const CommandInfo* kCommands[] = {
      &kConvertCommand, &kQuantizeCommand,   &kInspectCommand, &kCheckCommand,
      &kDiffCommand,    &kPerplexityCommand, &kMergeCommand,   &kImatrixCommand,
      &kPackCommand,    &kUnpackCommand,     &kTypesCommand,
  };
  return kCommands;
}

}  // namespace quern
