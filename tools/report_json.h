// Reports of `quern perplexity` as JSON; verify/REPORT.md is the schema.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "verify/report.h"

namespace quern {

// A report of a part holds four numbers per prediction.
inline constexpr uint64_t kMaxReportBytes = uint64_t{1} << 30;

// Returns the report, or where there are several an object with all of them; pretty-printed.
// Single predictions, of which there are many, are written for parts (Report::parts > 1), and for
// the only part of one (`with_predictions`).
std::string ReportsToJson(std::span<const Report> reports, bool with_predictions = false);

// Returns what ReportsToJson wrote, as far as it cannot be computed: what was measured, series and
// single predictions. `file` is the name for messages.
// Throws: Error kData "report.schema" for another document; as ParseJson; "config.value" and
// "report.size" for values that contradict each other.
std::vector<Report> ReportsFromJson(std::string_view text, const std::string& file);

// Returns the only report of the file, nothing without one (an empty name).
// Throws: as ReportsFromJson; Error kData "baseline.several" if it has several.
std::optional<Report> ReadBaseline(const std::string& file);

}  // namespace quern
