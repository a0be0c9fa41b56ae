// Files for reports: --json=FILE and the reports of perplexity. Unlike an output, a report replaces
// an earlier one without --force, since every run makes it anew; but nothing that is not a report
// of the same kind, and nothing that the run reads or writes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/command.h"

namespace quern {

// How every report of a kind begins, by which an earlier one is known.
inline constexpr std::string_view kJsonSignature = "{\n  \"schema\": \"quern.";
inline constexpr std::string_view kJunitSignature =
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"quern ";
inline constexpr std::string_view kMarkdownSignature = "### quern ";
inline constexpr std::string_view kHtmlSignature =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"generator\" content=\"quern";

// Finds out before the work whether a report can go to `path`. `used` are the files that the run
// reads and writes, whether they exist yet or not.
// Throws: Error kSystem "output.is-input", "output.exists" (no report of that kind),
// "output.directory", "output.open".
void CheckReportTarget(const std::string& path, std::string_view signature,
                       const std::vector<std::string>& used);

// Writes a report. Requires: `text` begins with `signature`.
// Throws: as CheckReportTarget; as Output.
void WriteReport(const std::string& path, std::string_view signature, const std::string& text,
                 const std::vector<std::string>& used);

// Tells the session which files the command reads and writes, and checks --json=FILE against them.
// Throws: as CheckReportTarget.
void UseFiles(Session& session, const std::vector<std::string>& files);

// The same for all files that OpenCheckpoint(path) would read.
void UseInput(Session& session, const std::string& path);

// Writes `json` (pretty-printed text) to where --json asks for it.
void WriteJson(const Session& session, const std::string& json);

}  // namespace quern
