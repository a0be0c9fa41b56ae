// The files of a checkpoint in Meta's layout: which there are, which are missing, which do not belong.
// Source: download.sh and Llama.build of meta-llama/llama (sorted file names give the ranks).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "converters/faults.h"

namespace quern {

struct MetaFolder {
  std::string path;                      // the folder, or the one .pth file that was asked for
  std::optional<std::string> params;     // params.json
  std::optional<std::string> tokenizer;  // tokenizer.model, here or one level above
  std::vector<std::string> shards;       // in rank order
  bool gapless = false;                  // the names show no missing shard
};

// Returns true if `path` is a folder with shards in Meta's naming, or with a params.json.
bool IsMetaFolder(const std::string& path);

// Returns the files of the folder, or of the single .pth file `path` with its neighbours. Shards
// that are missing and files that do not belong are added to `faults`.
// Throws: Error kSystem if the folder cannot be listed.
MetaFolder ListMetaFolder(const std::string& path, Faults& faults);

// Returns the error for a checkpoint without any shard.
Error NoShards(const std::string& folder);

// Returns the number in "consolidated.NN.pth", or nothing for any other name.
std::optional<uint32_t> ShardNumber(std::string_view file_name);
// Returns "consolidated.NN.pth".
std::string ShardName(uint32_t number);

}  // namespace quern
