// The texts of `quern help`, `quern CMD --help` and `quern version`.
#pragma once

#include <string>

#include "tools/command.h"

namespace quern {

// Returns the help of the whole program; brief is what a bare `quern` shows.
std::string GeneralHelp(bool brief);

// Returns the help of one command: usage, examples, then its flags, then the common ones.
std::string CommandHelp(const CommandInfo& info, const Flags& flags);

// Returns version, instruction sets in use, and libraries.
std::string VersionText(bool as_json);

}  // namespace quern
