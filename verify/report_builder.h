// Fills in what every report has.
#pragma once

#include <string_view>
#include <vector>

#include "verify/windows.h"

namespace quern {

// Returns the report without its divergence.
Report MakeReport(const TensorStore& model, std::string_view text, const TextWindows& windows,
                  const PerplexityOptions& options, std::vector<double> nll, double seconds);

}  // namespace quern
