// Reports of `quern perplexity` for reading.
#pragma once

#include <span>
#include <string>

#include "verify/report.h"

namespace quern {

// Returns one report as lines, several as a table; then what gates decided.
std::string ReportsToText(std::span<const Report> reports);

// Returns the exit code that the verdicts ask for: 1 if a model failed, else 6 if one is not
// decided, else 0.
int ExitCodeOf(std::span<const Report> reports);

}  // namespace quern
