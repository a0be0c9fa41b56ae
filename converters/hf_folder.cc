#include "converters/hf_folder.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "converters/meta_folder.h"
#include "converters/side_file.h"
#include "formats/core/file.h"
#include "formats/formats.h"
#include "formats/json_limits.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

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

bool Exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

std::string Join(const std::string& folder, std::string_view name) {
  return (fs::path(folder) / name).string();
}

bool IsFolder(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

bool HasMetaShard(const std::string& folder) {
  return std::ranges::any_of(NamesIn(folder),
                             [](const std::string& name) { return ShardNumber(name).has_value(); });
}

void ListIndexedShards(const std::string& index, HfFolder& folder, Faults& faults) {
  if (!faults.Try([&] {
        folder.weight_map =
            ParseWeightMap(ReadSideFile(index, kMaxIndexBytes, "an index of shards"), index);
      })) {
    return;
  }
  std::set<std::string> names;
  for (const auto& [tensor, shard] : folder.weight_map) names.insert(shard);
  std::vector<std::string> missing;
  for (const std::string& name : names) {
    const std::string path = Join(folder.folder, name);
    (Exists(path) ? folder.shards : missing).push_back(Exists(path) ? path : name);
  }
  if (missing.empty()) return;
  std::string text;
  constexpr size_t kShown = 24;
  for (size_t i = 0; i < std::min(missing.size(), kShown); ++i) {
    text += (i > 0 ? ", " : "") + Quoted(missing[i]);
  }
  if (missing.size() > kShown) text += " and " + std::to_string(missing.size() - kShown) + " more";
  faults.Add(DataError("index.shard-missing", "shards that the index names are missing")
                 .File(index)
                 .Found(std::to_string(folder.shards.size()) + " of " +
                        std::to_string(names.size()) + " shards")
                 .Expected("also " + text)
                 .Hint("download the missing files into the same folder"));
}

}  // namespace

WeightMap ParseWeightMap(std::string_view text, std::string_view file) {
  const JsonValue root = ParseJson(text, file);
  const auto map = root.is_object() ? root.Find("weight_map") : std::nullopt;
  if (!map || !map->is_object() || map->size() == 0) {
    ThrowConfigValue(file, "weight_map", map ? map->ToString() : "nothing",
                     "an object of tensors and their files");
  }
  WeightMap result;
  std::set<std::string, std::less<>> shards;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string())
      ThrowConfigValue(file, Escaped(tensor), shard.ToString(), "a file name");
    CheckShardName(shard.String(), file);
    result.emplace(tensor, shard.String());
    shards.emplace(shard.String());
    if (shards.size() > kMaxShards) {
      ThrowConfigValue(file, "weight_map", "more than " + std::to_string(kMaxShards) + " files",
                       "a few hundred shards at most");
    }
  }
  return result;
}

std::optional<std::string> HfFolder::Find(std::string_view name) const {
  const std::string found = Join(folder, name);
  return Exists(found) ? std::optional(found) : std::nullopt;
}

bool IsHfPath(const std::string& path) {
  if (!IsFolder(path)) {
    const std::string folder = fs::path(path).parent_path().string();
    return DetectKind(path) == FileKind::kSafetensors && Exists(Join(folder, "config.json"));
  }
  if (HasMetaShard(path)) return false;
  const bool has_weights = std::ranges::any_of(
      kWeightNames, [&](const WeightName& row) { return Exists(Join(path, row.name)); });
  if (has_weights) return true;
  return Exists(Join(path, "config.json")) && !Exists(Join(path, "params.json")) &&
         !Exists(Join(path, "adapter_config.json")) &&
         !Exists(Join(path, "consolidated.safetensors"));
}

HfFolder ListHfFolder(const std::string& path, Faults& faults) {
  HfFolder folder;
  folder.path = path;
  if (!IsFolder(path)) {
    folder.folder = fs::path(path).parent_path().string();
    folder.shards.push_back(path);
    return folder;
  }
  folder.folder = path;
  for (const WeightName& row : kWeightNames) {
    const std::string found = Join(path, row.name);
    if (!Exists(found)) continue;
    if (row.is_index) {
      folder.index = found;
      ListIndexedShards(found, folder, faults);
    } else {
      folder.shards.push_back(found);
    }
    return folder;
  }
  faults.Add(DataError("hf.weights-missing", "no weights in this folder")
                 .File(path)
                 .Expected("model.safetensors or pytorch_model.bin, or the .index.json of shards")
                 .Hint("download the weights into the folder; shards need their index"));
  return folder;
}

}  // namespace quern
