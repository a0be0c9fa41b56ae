// A report of an earlier run as the measure of a later one: no reference is evaluated again.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "verify/report.h"
#include "verify/windows.h"

namespace quern {

// Leaves of `windows` those that `baseline` has too, and returns its mean nll of each.
// `report` tells what the run is to measure; `name` is the baseline's file.
// Throws: Error kData "baseline.differs" unless text, tokens, protocol, context and compute type
// are the same and there are windows that both have.
std::vector<double> AlignBaseline(const Report& baseline, const std::string& name,
                                  const Report& report, TextWindows& windows);

// Returns the baseline's mean nll of each window of `report`, which is a finished one.
// Throws: Error kData "baseline.differs" as AlignBaseline, and where the baseline lacks a window.
std::vector<double> BaselineNll(const Report& baseline, const std::string& name,
                                const Report& report);

// Returns `report` beside the baseline's `nll` of the same windows.
BaselineComparison CompareWithBaseline(const Report& baseline, const std::string& name,
                                       std::span<const double> nll, const Report& report);

}  // namespace quern
