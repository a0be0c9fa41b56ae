#include "tools/report_files.h"

#include <CLI/CLI.hpp>

#include "formats/core/file.h"

namespace quern {
namespace {

void WriteTo(const std::string& path, const std::string& text) {
  if (path.empty()) return;
  const auto output =
      OpenOutput(path, {.force = true, .inputs = {}, .expected_bytes = text.size()});
  output->Write(AsBytes(text));
  output->Commit();
}

}  // namespace

void ReportFiles::AddTo(CLI::App& app) {
  app.add_option("--junit", junit, "Also write JUnit's XML: a test case for each gate")
      ->type_name("FILE");
  app.add_option("--markdown", markdown, "Also write Markdown, for job summaries")
      ->type_name("FILE");
  app.add_option("--html", html, "Also write a page with plots, in one file")->type_name("FILE");
}

void ReportFiles::Write(std::span<const Report> reports) const {
  if (!junit.empty()) WriteTo(junit, ReportsToJunit(reports));
  if (!markdown.empty()) WriteTo(markdown, ReportsToMarkdown(reports));
  if (!html.empty()) WriteTo(html, ReportsToHtml(reports));
}

}  // namespace quern
