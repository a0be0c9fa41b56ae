#include "tools/report_files.h"

#include <vector>

#include "tools/report_target.h"

namespace quern {
void ReportFiles::AddTo(Flags& flags) {
  flags.Value("--junit", junit, "FILE", "Also write JUnit's XML: a test case for each gate");
  flags.Value("--markdown", markdown, "FILE", "Also write Markdown, for job summaries");
  flags.Value("--html", html, "FILE", "Also write a page with plots, in one file");
}

std::vector<ReportFiles::Kind> ReportFiles::Wanted() const {
  std::vector<Kind> kinds = {{junit, kJunitSignature, ReportsToJunit},
                             {markdown, kMarkdownSignature, ReportsToMarkdown},
                             {html, kHtmlSignature, ReportsToHtml}};
  std::erase_if(kinds, [](const Kind& kind) { return kind.path.empty(); });
  return kinds;
}

void ReportFiles::Use(Session& session) const {
  for (const Kind& kind : Wanted()) {
    CheckReportTarget(kind.path, kind.signature, session.used_files);
    UseFiles(session, {kind.path});
  }
}

void ReportFiles::Write(std::span<const Report> reports, const Session& session) const {
  for (const Kind& kind : Wanted()) {
    std::vector<std::string> others = session.used_files;
    std::erase(others, kind.path);
    WriteReport(kind.path, kind.signature, kind.make(reports), others);
  }
}

}  // namespace quern
