// Meta's checklist.chk: MD5 sums of a release's files, as md5sum prints them.
// Source: download.sh of meta-llama/llama; GNU coreutils, "md5sum output modes".
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "formats/core/finding.h"
#include "formats/core/log.h"

namespace quern {

struct ChecklistEntry {
  std::string md5;   // 32 lower-case hex digits
  std::string file;  // a plain name in the checklist's own folder
};

struct Checklist {
  std::vector<ChecklistEntry> entries;
  std::vector<size_t> malformed_lines;  // 1-based; released checklists have such lines
};

// Returns the entries of a checklist. Lines that are not of md5sum's form, or that name anything
// but a file in the same folder, are listed as malformed and otherwise ignored.
Checklist ParseChecklist(std::string_view text);

// Returns the checklists that exist for the folder: checklist.chk, tokenizer_checklist.chk, and
// the latter one level above.
std::vector<std::string> ChecklistPaths(const std::string& folder);

// Compares the files of `folder` with its checklist.chk, and tokenizer.model one level above with
// tokenizer_checklist.chk there, where these exist. A stale sum of params.json, a malformed line
// (released checklists have both) and a file of weights that is not listed are warnings; a wrong
// sum, a missing file, two sums for one file, and a file or checklist that cannot be read are
// errors. A folder in Meta's layout without a checklist gives one note; Hugging Face's have none.
std::vector<Finding> VerifyChecklist(const std::string& folder, Progress* progress = nullptr);

// The same for a pass that is to read only verified files: warnings go to `log`.
// Throws: Error kData "checklist.absent" if there is no checklist.chk, "checklist.empty",
// "input.*" or "file.too-large" if it is none, "checklist.unlisted" for the first file of weights
// that it does not list; "checklist.md5", "checklist.missing-file" or "checklist.contradiction" for
// the first file that is not as its checklist says; kSystem if a file cannot be read.
void RequireChecklist(const std::string& folder, Log& log, Progress* progress = nullptr);

}  // namespace quern
