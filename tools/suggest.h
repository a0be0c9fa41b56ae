// "Did you mean …?"
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace quern {

// Returns the candidate nearest to `word`, or "" if none is near enough to be what was meant:
// at most one edit in three letters (so that words of two must be the same), where an edit is an
// insertion, deletion, substitution or a swap of neighbours. Case does not matter.
std::string NearestWord(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace quern
