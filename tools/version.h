// The version of quern and of what it is built on.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace quern {

inline constexpr std::string_view kVersion = QUERN_VERSION;

// Returns {library, version} pairs, as linked or as compiled against.
std::vector<std::pair<std::string, std::string>> LibraryVersions();

}  // namespace quern
