// The parts of one measurement, made by several runs, as the whole.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "verify/report.h"

namespace quern {

// A report of a run with --part, and the file that it comes from.
struct ReportPart {
  std::string file;
  Report report;
};

// Returns the report that one run over all windows gives: the same numbers but for `seconds`, which
// are added up.
// Throws: Error kData "merge.parts" unless every part is there just once, with its predictions;
// "merge.differs" where two parts measured different models, texts or protocols.
// Requires: at least one part.
Report MergeParts(std::span<const ReportPart> parts);

}  // namespace quern
