// The files of a Hugging Face folder: which there are, and which shards the index names.
// Source: modeling_utils.py of huggingface/transformers (the names and the order in which they are
// looked for).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "converters/faults.h"
#include "formats/core/string_list.h"

namespace quern {

// weight_map of an index: the shard of each tensor. Indices of hostile files have hundreds of
// thousands of tensors.
struct WeightMap {
  StringList tensors;               // in the order of the file, each once
  std::vector<uint32_t> shard_of;   // of each tensor, an index into shards
  std::vector<std::string> shards;  // plain file names, in the order of their names
};

// Returns the weight_map of an index.
// Throws: Error kData "config.value", "index.path", "json.*".
WeightMap ParseWeightMap(std::string_view text, std::string_view file);

struct HfFolder {
  std::string path;                  // the folder, or the one weight file that was asked for
  std::string folder;                // where the side files are
  std::optional<std::string> index;  // model.safetensors.index.json or pytorch_model.bin.index.json
  std::vector<std::string> shards;   // paths, in the order of their names
  bool is_complete = true;           // no shard is missing
  WeightMap weight_map;              // empty without an index

  // Returns the path of a file of that name beside the weights, or nothing.
  std::optional<std::string> Find(std::string_view name) const;
};

// Returns true if `path` is a folder with weights in Hugging Face's naming and none in Meta's, a
// folder with a config.json and no params.json, or a safetensors file (or torch file, if there is no
// params.json) with a config.json beside it.
bool IsHfPath(const std::string& path);

// Returns the files. Shards that are missing, and an index that cannot be read, are added to
// `faults`.
HfFolder ListHfFolder(const std::string& path, Faults& faults);

}  // namespace quern
