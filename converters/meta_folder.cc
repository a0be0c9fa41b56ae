#include "converters/meta_folder.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "converters/paths.h"
#include "formats/core/error.h"
#include "formats/core/file.h"

namespace quern {
namespace {

// The folder above, also where the path does not show it ("." or "a/..").
std::string ParentOf(const std::string& folder) {
  return JoinPath(folder.empty() ? "." : folder, "..");
}

void FindSideFiles(const std::string& folder, MetaFolder& files) {
  if (const std::string params = JoinPath(folder, "params.json"); IsFile(params)) {
    files.params = params;
  }
  for (const std::string& place : {folder, ParentOf(folder)}) {
    const std::string tokenizer = JoinPath(place, "tokenizer.model");
    if (!files.tokenizer && IsFile(tokenizer)) files.tokenizer = tokenizer;
  }
}

// Adds the gaps in the numbers. Requires: `numbers` is sorted.
void CheckNumbers(const std::vector<uint32_t>& numbers, const std::string& folder, Faults& faults) {
  std::string missing;
  uint32_t next = 0;
  for (const uint32_t number : numbers) {
    // A stray high number must not make a list of thousands.
    for (; next < number && missing.size() < 400; ++next) {
      missing += (missing.empty() ? "" : ", ") + ShardName(next);
    }
    next = number + 1;
  }
  if (missing.empty()) return;
  faults.Add(DataError("meta.shard-missing", "shard files are missing")
                 .File(folder)
                 .Found(std::to_string(numbers.size()) + " up to " + ShardName(numbers.back()))
                 .Expected("also " + missing)
                 .Hint("download the missing files, or the whole checkpoint again"));
}

// Adds what the other names tell: copies of shards under other names, other releases.
void CheckForeignNames(const std::vector<std::string>& names, const MetaFolder& files,
                       Faults& faults) {
  for (const std::string& name : names) {
    if (name.starts_with("fp8_scales_")) {
      faults.Add(UnsupportedError("meta.release", "the fp8 release of Llama 3.1 405B")
                     .File(files.path)
                     .Found(Quoted(name))
                     .Expected("bf16 weights")
                     .Hint("convert Llama-3.1-405B-MP8 or -MP16, which hold the bf16 weights"));
      return;
    }
    if (name.ends_with(".pth") && !ShardNumber(name) &&
        files.shards != std::vector{JoinPath(files.path, name)}) {
      faults.Warn(DataError("meta.foreign-file", "a .pth file that is no shard is left out")
                      .File(files.path)
                      .Found(Quoted(name))
                      .Expected("consolidated.NN.pth"));
    }
  }
}

}  // namespace

std::optional<uint32_t> ShardNumber(std::string_view file_name) {
  constexpr std::string_view kBegin = "consolidated.";
  if (!file_name.starts_with(kBegin)) return std::nullopt;
  const std::string_view digits = file_name.substr(kBegin.size());
  uint32_t number = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), number);
  // Only the one spelling: "consolidated.000.pth" beside "consolidated.00.pth" is no second shard.
  if (number >= 10000 || ShardName(number) != file_name) return std::nullopt;
  return number;
}

std::string ShardName(uint32_t number) {
  return "consolidated." + std::string(number < 10 ? "0" : "") + std::to_string(number) + ".pth";
}

Error NoShards(const std::string& folder) {
  return DataError("meta.shard-missing", "no shard files")
      .File(folder)
      .Expected("consolidated.00.pth and so on")
      .Hint("download the weights into the folder of params.json");
}

bool IsMetaFolder(const std::string& path) {
  if (!IsFolder(path)) return false;
  const std::vector<std::string> names = NamesIn(path);
  return std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name == "params.json" || (name.starts_with("consolidated.") && name.ends_with(".pth"));
  });
}

MetaFolder ListMetaFolder(const std::string& path, Faults& faults) {
  MetaFolder files;
  files.path = path;
  if (!IsFolder(path)) {
    files.shards = {path};
    files.gapless = true;
    FindSideFiles(FolderOf(path), files);
    return files;
  }
  const std::vector<std::string> names = NamesIn(path);
  // The numbers are the ranks; a single file under another name (a community's model.pth) is a
  // checkpoint of one shard.
  std::vector<uint32_t> numbers;
  std::vector<std::string> others;
  for (const std::string& name : names) {
    if (const auto number = ShardNumber(name)) {
      numbers.push_back(*number);
    } else if (name.ends_with(".pth") || name.ends_with(".pt")) {
      others.push_back(JoinPath(path, name));
    }
  }
  std::sort(numbers.begin(), numbers.end());
  for (const uint32_t number : numbers) files.shards.push_back(JoinPath(path, ShardName(number)));
  if (numbers.empty() && others.size() == 1) files.shards = others;
  if (files.shards.empty()) faults.Add(NoShards(path));
  CheckForeignNames(names, files, faults);
  CheckNumbers(numbers, path, faults);
  files.gapless = !files.shards.empty() && (numbers.empty() || numbers.back() + 1 == numbers.size());
  FindSideFiles(path, files);
  return files;
}

}  // namespace quern
