// Reports of `quern perplexity` and `quern merge` as files for others: JUnit's XML for CI servers,
// Markdown for job summaries, a self-contained HTML page with plots.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/command.h"
#include "verify/report.h"

namespace quern {

// Returns JUnit's XML: a test suite per model, a test case per gate, or where there is no gate one
// that passed; not decided is an error. Numbers are properties of the suite.
std::string ReportsToJunit(std::span<const Report> reports);

// Returns GitHub's Markdown: what the gates decided, the table of models, the tensors that do most
// damage.
std::string ReportsToMarkdown(std::span<const Report> reports);

// Returns an HTML page without scripts and links to anything: tables and plots as inline SVG, in
// the reader's light or dark colours.
std::string ReportsToHtml(std::span<const Report> reports);

// The flags that ask for these files.
struct ReportFiles {
  std::string junit, markdown, html;  // empty: not asked for

  // Adds --junit, --markdown and --html.
  void AddTo(Flags& flags);
  // Finds out before the work whether the files can be written, and counts them among those that
  // the run writes. Throws: as CheckReportTarget.
  void Use(Session& session) const;
  // Writes what was asked for. Throws: as WriteReport.
  void Write(std::span<const Report> reports, const Session& session) const;

 private:
  struct Kind {
    std::string path;
    std::string_view signature;
    std::string (*make)(std::span<const Report>);
  };
  std::vector<Kind> Wanted() const;
};

}  // namespace quern
