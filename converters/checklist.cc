#include "converters/checklist.h"

#include <md5.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <set>

#include "converters/converters.h"
#include "converters/faults.h"
#include "converters/hf_folder.h"
#include "converters/paths.h"
#include "converters/side_file.h"
#include "formats/core/file.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxChecklistBytes = 1u << 20;
constexpr uint64_t kReadBytes = 1u << 20;
constexpr std::string_view kChecklist = "checklist.chk";

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
  std::string_view name = line.substr(kDigits + 2);
  if (name.starts_with("./")) name.remove_prefix(2);  // as `md5sum ./*` writes it
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

bool HasChecklist(const std::string& folder) {
  std::error_code error;
  return fs::exists(JoinPath(folder, kChecklist), error);
}

// A checklist that cannot be read is a fault.
std::vector<Task> ReadTasks(const std::string& folder, Faults& faults) {
  std::vector<Task> tasks;
  for (const std::string& path : ChecklistPaths(folder)) {
    faults.Try([&] {
      Checklist list = ParseChecklist(ReadSideFile(path, kMaxChecklistBytes, "a checklist"));
      if (list.entries.empty()) {
        throw DataError("checklist.empty", "checklist lists no files")
            .File(path)
            .Expected("lines of 32 hex digits, two spaces and a file name, as md5sum prints them")
            .Hint("download it again");
      }
      tasks.push_back({path, fs::path(path).parent_path().string(), std::move(list)});
    });
  }
  return tasks;
}

Error NoChecklist(const std::string& folder) {
  return DataError("checklist.absent", "no checklist.chk, so no sums to compare").File(folder);
}

// Compares files with checklists. A file that is listed again is not read again.
class Verifier {
 public:
  Verifier(Progress* progress, Faults& faults) : progress_(progress), faults_(faults) {}

  void Verify(const std::vector<Task>& tasks) {
    std::set<std::string> paths;
    for (const Task& task : tasks) {
      for (const ChecklistEntry& entry : task.list.entries) {
        paths.insert(JoinPath(task.folder, entry.file));
      }
    }
    if (progress_) progress_->Begin("verify MD5", TotalBytes(paths), "bytes");
    for (const Task& task : tasks) {
      for (const size_t line : task.list.malformed_lines) {
        faults_.Warn(DataError("checklist.line", "a line is not of md5sum's form")
                         .File(task.path)
                         .Where("line " + std::to_string(line)));
      }
      for (const ChecklistEntry& entry : task.list.entries) VerifyEntry(task, entry);
    }
    if (progress_) progress_->End();
  }

 private:
  void VerifyEntry(const Task& task, const ChecklistEntry& entry) {
    const std::string path = JoinPath(task.folder, entry.file);
    const auto [listed, is_new] = listed_.emplace(path, entry.md5);
    if (!is_new) {
      if (listed->second != entry.md5) faults_.Add(Contradiction(task, entry, listed->second));
      return;
    }
    std::error_code error;
    if (!fs::exists(path, error)) {
      faults_.Add(DataError("checklist.missing-file", "a file of the checklist is missing")
                      .File(task.path)
                      .Where("entry " + Quoted(entry.file))
                      .Hint("download it again"));
      return;
    }
    faults_.Try([&] { CompareFile(path, task, entry); });
  }

  static Error Contradiction(const Task& task, const ChecklistEntry& entry,
                             const std::string& other_md5) {
    return DataError("checklist.contradiction", "a file is listed with two sums")
        .File(task.path)
        .Where("entry " + Quoted(entry.file))
        .Found(entry.md5 + " after " + other_md5)
        .Hint("download the checklist again");
  }

  void CompareFile(const std::string& path, const Task& task, const ChecklistEntry& entry) {
    const std::string md5 = Md5OfFile(InputFile(path), progress_);
    if (md5 == entry.md5) return;
    const std::string expected = entry.md5 + " by " + task.path;
    // Meta corrected params.json of several releases and left the checklist as it was.
    if (entry.file == "params.json") {
      faults_.Warn(DataError("checklist.md5",
                             "MD5 differs from the checklist, which is stale for params.json in "
                             "some releases")
                       .File(path)
                       .Found(md5)
                       .Expected(expected)
                       .Hint("compare params.json with the model card"));
      return;
    }
    throw DataError("checklist.md5", "MD5 differs from the checklist")
        .File(path)
        .Found(md5)
        .Expected(expected)
        .Hint("the file is damaged or of another release; download it again");
  }

  Progress* progress_;
  Faults& faults_;
  std::map<std::string, std::string> listed_;  // paths, and the first sum of each
};

// Returns an error for each file of weights that checklist.chk, if it could be read, does not list.
std::vector<Error> UnlistedShards(const std::string& folder, const std::vector<Task>& tasks) {
  const std::string path = JoinPath(folder, kChecklist);
  const auto task =
      std::ranges::find_if(tasks, [&](const Task& t) { return t.path == path; });
  if (task == tasks.end()) return {};
  std::set<std::string> listed;
  for (const ChecklistEntry& entry : task->list.entries) listed.insert(entry.file);
  std::vector<Error> errors;
  for (const std::string& shard : ShardsOf(folder)) {
    const std::string name(BaseName(shard));
    if (listed.contains(name)) continue;
    errors.push_back(DataError("checklist.unlisted", "a file of weights is not in the checklist")
                         .File(path)
                         .Expected("an entry " + Quoted(name))
                         .Hint("the checklist is incomplete or of another release"));
  }
  return errors;
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

std::vector<std::string> ChecklistPaths(const std::string& folder) {
  std::vector<std::string> paths;
  for (std::string path : {JoinPath(folder, kChecklist), JoinPath(folder, "tokenizer_checklist.chk"),
                           JoinPath(JoinPath(folder, ".."), "tokenizer_checklist.chk")}) {
    std::error_code error;
    if (fs::exists(path, error)) paths.push_back(std::move(path));
  }
  return paths;
}

std::vector<Finding> VerifyChecklist(const std::string& folder, Progress* progress) {
  Faults faults;
  if (!HasChecklist(folder) && !IsHfPath(folder)) faults.Note(NoChecklist(folder));
  const std::vector<Task> tasks = ReadTasks(folder, faults);
  if (!tasks.empty()) Verifier(progress, faults).Verify(tasks);
  for (const Error& error : UnlistedShards(folder, tasks)) faults.Warn(error);
  return std::move(faults).TakeFindings();
}

void RequireChecklist(const std::string& folder, Log& log, Progress* progress) {
  if (!HasChecklist(folder)) {
    throw NoChecklist(folder)
        .Expected("checklist.chk, as Meta's releases have it")
        .Hint("fetch checklist.chk from the release, or convert without --verify");
  }
  Faults faults;
  const std::vector<Task> tasks = ReadTasks(folder, faults);
  faults.ThrowFirst();
  // Before hashing: that takes minutes.
  for (const Error& error : UnlistedShards(folder, tasks)) throw error;
  Verifier(progress, faults).Verify(tasks);
  faults.ThrowFirst();
  faults.LogWarnings(log);
}

}  // namespace quern
