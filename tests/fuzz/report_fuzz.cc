// Reports of quern perplexity from strangers: read, written, read again, merged with themselves.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "formats/core/error.h"
#include "tools/report_json.h"
#include "verify/divergence.h"
#include "verify/merge.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quern;
  try {
    std::vector<Report> reports =
        ReportsFromJson(std::string_view(reinterpret_cast<const char*>(data), size), "report.json");
    for (Report& report : reports) {
      if (report.series.size() != report.windows || report.windows == 0) std::abort();
      if (report.predictions.nll.empty()) continue;
      const std::vector<uint64_t> places = report.series.place;
      Summarize(places, report.divergence ? report.divergence->reference : ReferenceInfo(), report);
      const std::string json = ReportsToJson({&report, 1});
      // What was written is read again, with the same predictions.
      if (report.parts > 1 &&
          ReportsFromJson(json, "report.json")[0].predictions.nll != report.predictions.nll) {
        std::abort();
      }
      const ReportPart part = {"report.json", report};
      MergeParts({&part, 1});
    }
  } catch (const Error& error) {
    if (error.code() == ErrorCode::kBug) std::abort();
  }
  return 0;
}
