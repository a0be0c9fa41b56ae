#include "converters/checklist.h"

#include <md5.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "converters/faults.h"
#include "converters/hf_folder.h"
#include "formats/core/file.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxChecklistBytes = 1u << 20;
constexpr uint64_t kReadBytes = 1u << 20;

// Returns the MD5 of the file, in lower-case hex. Requires nothing of the whole fitting in memory.
std::string Md5OfFile(const InputFile& file, Progress* progress) {
  MD5_CTX state;
  MD5Init(&state);
  std::vector<uint8_t> buffer(std::min(file.size_bytes(), kReadBytes));
  for (uint64_t offset = 0; offset < file.size_bytes();) {
    const uint64_t n = std::min<uint64_t>(buffer.size(), file.size_bytes() - offset);
    file.ReadAt(offset, MutableByteView(buffer).first(n));
    MD5Update(&state, buffer.data(), n);
    if (progress) progress->Advance(n);
    offset += n;
  }
  std::array<uint8_t, MD5_DIGEST_LENGTH> digest;
  MD5Final(digest.data(), &state);
  constexpr char kHex[] = "0123456789abcdef";
  std::string hex;
  for (const uint8_t byte : digest) hex += {kHex[byte >> 4], kHex[byte & 15]};
  return hex;
}

// Returns the entry in one line "<32 hex digits>  NAME" (or " *NAME"), or an empty file name.
ChecklistEntry ParseLine(std::string_view line) {
  constexpr size_t kDigits = 32;
  if (line.size() < kDigits + 3 || line[kDigits] != ' ') return {};
  if (line[kDigits + 1] != ' ' && line[kDigits + 1] != '*') return {};
  std::string md5(line.substr(0, kDigits));
  for (char& c : md5) {
    if (c >= 'A' && c <= 'F') c = static_cast<char>(c - 'A' + 'a');
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return {};
  }
  const std::string_view name = line.substr(kDigits + 2);
  // Names are never used as paths out of the folder.
  if (name == "." || name == ".." || name.find_first_of(std::string_view("/\0", 2)) != name.npos) {
    return {};
  }
  return {std::move(md5), std::string(name)};
}

// One checklist that exists, with the folder its names are relative to.
struct Task {
  std::string path, folder;
  Checklist list;
};

std::string Join(const std::string& folder, std::string_view name) {
  return (fs::path(folder) / name).string();
}

void ReadTask(const std::string& folder, std::string_view name, std::vector<Task>& tasks) {
  std::error_code error;
  const std::string path = Join(folder, name);
  if (!fs::is_regular_file(path, error)) return;
  tasks.push_back({path, folder, ParseChecklist(ReadWholeFile(path, kMaxChecklistBytes))});
}

void VerifyEntry(const Task& task, const ChecklistEntry& entry, Progress* progress,
                 Faults& faults) {
  const std::string path = Join(task.folder, entry.file);
  std::error_code error;
  if (!fs::exists(path, error)) {
    faults.Add(DataError("checklist.missing-file", "a file of the checklist is missing")
                   .File(task.path)
                   .Where("entry " + Quoted(entry.file))
                   .Hint("download it again"));
    return;
  }
  const std::string md5 = Md5OfFile(InputFile(path), progress);
  if (md5 == entry.md5) return;
  const std::string expected = entry.md5 + " by " + task.path;
  // Meta corrected params.json of several releases and left the checklist as it was.
  if (entry.file == "params.json") {
    faults.Warn(DataError("checklist.md5",
                          "MD5 differs from the checklist, which is stale for params.json in some "
                          "releases")
                    .File(path)
                    .Found(md5)
                    .Expected(expected)
                    .Hint("compare params.json with the model card"));
    return;
  }
  faults.Add(DataError("checklist.md5", "MD5 differs from the checklist")
                 .File(path)
                 .Found(md5)
                 .Expected(expected)
                 .Hint("the file is damaged or of another release; download it again"));
}

// Returns the checklists that exist for the folder.
std::vector<Task> ReadTasks(const std::string& folder) {
  std::vector<Task> tasks;
  ReadTask(folder, "checklist.chk", tasks);
  ReadTask(folder, "tokenizer_checklist.chk", tasks);
  ReadTask(Join(folder, ".."), "tokenizer_checklist.chk", tasks);
  return tasks;
}

Error NoChecklist(const std::string& folder) {
  return DataError("checklist.absent", "no checklist.chk, so no sums to compare").File(folder);
}

void VerifyTasks(const std::vector<Task>& tasks, Progress* progress, Faults& faults) {
  uint64_t total_bytes = 0;
  for (const Task& task : tasks) {
    for (const ChecklistEntry& entry : task.list.entries) {
      std::error_code error;
      const uint64_t size = fs::file_size(Join(task.folder, entry.file), error);
      if (!error) total_bytes += size;
    }
  }
  if (progress) progress->Begin("verify MD5", total_bytes, "bytes");
  for (const Task& task : tasks) {
    for (const size_t line : task.list.malformed_lines) {
      faults.Warn(DataError("checklist.line", "a line is not of md5sum's form")
                      .File(task.path)
                      .Where("line " + std::to_string(line)));
    }
    for (const ChecklistEntry& entry : task.list.entries) {
      VerifyEntry(task, entry, progress, faults);
    }
  }
  if (progress) progress->End();
}

}  // namespace

Checklist ParseChecklist(std::string_view text) {
  Checklist list;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    ChecklistEntry entry = ParseLine(line);
    if (entry.file.empty()) {
      list.malformed_lines.push_back(number);
    } else {
      list.entries.push_back(std::move(entry));
    }
  }
  return list;
}

std::vector<Finding> VerifyChecklist(const std::string& folder, Progress* progress) {
  const std::vector<Task> tasks = ReadTasks(folder);
  Faults faults;
  if (tasks.empty()) {
    if (!IsHfPath(folder)) faults.Note(NoChecklist(folder));
  } else {
    VerifyTasks(tasks, progress, faults);
  }
  return std::move(faults).TakeFindings();
}

void RequireChecklist(const std::string& folder, Log& log, Progress* progress) {
  const std::vector<Task> tasks = ReadTasks(folder);
  if (tasks.empty()) throw NoChecklist(folder).Expected("checklist.chk, as Meta's releases have it");
  Faults faults;
  VerifyTasks(tasks, progress, faults);
  faults.ThrowFirst();
  faults.LogWarnings(log);
}

}  // namespace quern
