#include "converters/hf_folder.h"

#include <algorithm>
#include <array>
#include <set>

#include "converters/meta_folder.h"
#include "converters/paths.h"
#include "converters/side_file.h"
#include "formats/core/file.h"
#include "formats/core/name_list.h"
#include "formats/formats.h"
#include "formats/json_limits.h"

namespace quern {
namespace {

// The index of a 405B has 1,138 tensors in 191 shards.
constexpr uint64_t kMaxIndexBytes = uint64_t{16} << 20;
constexpr size_t kMaxShards = 4096;

// Names of weights, in the order in which they are looked for.
struct WeightName {
  std::string_view name;
  bool is_index;
};
constexpr std::array<WeightName, 4> kWeightNames = {{
    {"model.safetensors", false},
    {"model.safetensors.index.json", true},
    {"pytorch_model.bin", false},
    {"pytorch_model.bin.index.json", true},
}};

bool HasMetaShard(const std::string& folder) {
  return std::ranges::any_of(NamesIn(folder),
                             [](const std::string& name) { return ShardNumber(name).has_value(); });
}

WeightMap ReadIndex(const std::string& index) {
  return ParseWeightMap(ReadSideFile(index, kMaxIndexBytes, "an index of shards"), index);
}

void ListIndexedShards(const std::string& index, HfFolder& folder, Faults& faults) {
  folder.is_complete = faults.Try([&] { folder.weight_map = ReadIndex(index); });
  NameList missing;
  for (const std::string& name : folder.weight_map.shards) {
    const std::string path = JoinPath(folder.folder, name);
    if (IsFile(path)) {
      folder.shards.push_back(path);
    } else {
      missing.Add(name);
    }
  }
  if (missing.empty()) return;
  folder.is_complete = false;
  faults.Add(DataError("index.shard-missing", "shards that the index names are missing")
                 .File(index)
                 .Found(std::to_string(folder.shards.size()) + " of " +
                        std::to_string(folder.weight_map.shards.size()) + " shards")
                 .Expected("also " + missing.ToString())
                 .Hint("download the missing files into the same folder"));
}

// Returns true, and adds why, if the file at `path` is one of several shards of its folder's index.
bool IsOneOfShards(const std::string& path, const std::string& folder, Faults& faults) {
  for (const WeightName& row : kWeightNames) {
    const std::string index = JoinPath(folder, row.name);
    if (!row.is_index || !IsFile(index)) continue;
    WeightMap map;
    Faults ignored;  // an index that cannot be read says nothing of this file
    ignored.Try([&] { map = ReadIndex(index); });
    const bool is_named = std::ranges::find(map.shards, BaseName(path)) != map.shards.end();
    if (!is_named || map.shards.size() == 1) continue;
    faults.Add(DataError("index.shard-missing", "this is one of the shards of a checkpoint")
                   .File(path)
                   .Found("1 of " + std::to_string(map.shards.size()) + " shards")
                   .Expected("their folder")
                   .Hint("give the folder: " + Quoted(folder.empty() ? "." : folder)));
    return true;
  }
  return false;
}

// A torch file with a params.json beside it is Meta's, whatever else is there.
bool IsWeightFile(const std::string& path) {
  switch (DetectKind(path)) {
    case FileKind::kSafetensors:
      return true;
    case FileKind::kTorchZip:
    case FileKind::kTorchLegacy:
      return !ShardNumber(BaseName(path)) && !IsFile(JoinPath(FolderOf(path), "params.json"));
    default:
      return false;
  }
}

}  // namespace

WeightMap ParseWeightMap(std::string_view text, std::string_view file) {
  const JsonValue root = ParseJsonObject(text, file, "an index with a weight_map");
  const auto map = root.Find("weight_map");
  if (!map || !map->is_object() || map->size() == 0) {
    ThrowConfigValue(file, "weight_map", map ? map->ToString() : "nothing",
                     "an object of tensors and their files");
  }
  std::set<std::string, std::less<>> names;
  uint64_t n_name_bytes = 0;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string()) ThrowConfigValue(file, tensor, shard.ToString(), "a file name");
    n_name_bytes += tensor.size();
    if (names.contains(shard.String())) continue;
    CheckShardName(shard.String(), file);
    names.emplace(shard.String());
    if (names.size() > kMaxShards) {
      ThrowConfigValue(file, "weight_map", "more than " + std::to_string(kMaxShards) + " files",
                       "a few hundred shards at most");
    }
  }
  WeightMap result;
  result.shards.assign(names.begin(), names.end());
  result.tensors.reserve(map->size(), n_name_bytes);
  result.shard_of.reserve(map->size());
  for (const auto& [tensor, shard] : map->items()) {
    result.tensors.push_back(tensor);
    const auto at = std::ranges::lower_bound(result.shards, shard.String());
    result.shard_of.push_back(static_cast<uint32_t>(at - result.shards.begin()));
  }
  return result;
}

std::optional<std::string> HfFolder::Find(std::string_view name) const {
  const std::string found = JoinPath(folder, name);
  return IsFile(found) ? std::optional(found) : std::nullopt;
}

bool IsHfPath(const std::string& path) {
  if (!IsFolder(path)) {
    return IsFile(JoinPath(FolderOf(path), "config.json")) && IsWeightFile(path);
  }
  if (HasMetaShard(path)) return false;
  const auto has = [&](std::string_view name) { return IsFile(JoinPath(path, name)); };
  const bool has_weights =
      std::ranges::any_of(kWeightNames, [&](const WeightName& row) { return has(row.name); });
  if (has_weights) return true;
  return has("config.json") && !has("params.json") && !has("adapter_config.json") &&
         !has("consolidated.safetensors");
}

HfFolder ListHfFolder(const std::string& path, Faults& faults) {
  HfFolder folder;
  folder.path = path;
  if (!IsFolder(path)) {
    folder.folder = FolderOf(path);
    folder.is_complete = !IsOneOfShards(path, folder.folder, faults);
    folder.shards.push_back(path);
    return folder;
  }
  folder.folder = path;
  for (const WeightName& row : kWeightNames) {
    const std::string found = JoinPath(path, row.name);
    if (!IsFile(found)) continue;
    if (row.is_index) {
      folder.index = found;
      ListIndexedShards(found, folder, faults);
    } else {
      folder.shards.push_back(found);
    }
    return folder;
  }
  folder.is_complete = false;
  faults.Add(DataError("hf.weights-missing", "no weights in this folder")
                 .File(path)
                 .Expected("model.safetensors or pytorch_model.bin, or the .index.json of shards")
                 .Hint("download the weights into the folder; shards need their index"));
  return folder;
}

}  // namespace quern
