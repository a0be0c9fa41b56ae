// The table of input kinds: what quern can read as a checkpoint, and how a path finds its reader.
//
// A converter knows what a checkpoint's bytes mean (which tensor is which, how shards join, where
// the vocabulary is) and shows it as a TensorStore in quern's canonical order. It never quantizes:
// the manifest has the types as stored.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "converters/faults.h"
#include "formats/core/finding.h"
#include "formats/core/log.h"
#include "formats/core/stream.h"

namespace quern {

struct CheckpointOptions {
  // Replaces the context length that the checkpoint states or the rule gives (--context).
  std::optional<uint32_t> context_length;
  // general.name of the output; empty: none. Never taken from a folder's name.
  std::string name;
  // Compare what is read with the sums that the files keep: the CRC-32 of every storage, the hashes
  // of a GGUF's integrity trailer.
  bool verify_crc = true;
  // Take a GGUF's metadata as they are where only they differ from what its trailer says.
  bool trust_metadata = false;
  // Where warnings go; null: nowhere. Used while opening only.
  Log* log = nullptr;
};

struct ConverterInfo {
  std::string_view name;         // "meta"
  std::string_view description;  // one line for `quern types`
  // Returns true if `path` (an existing file or folder) is of this kind. Looks at names and first
  // bytes only.
  bool (*recognizes)(const std::string& path);
  // Throws: Error with file, tensor or key named.
  std::unique_ptr<TensorStore> (*open)(const std::string& path, const CheckpointOptions& options);
  // Returns every file that `open` would read.
  std::vector<std::string> (*input_files)(const std::string& path);
  // As `open`, but returns nothing where anything is wrong, and adds all that can be told to
  // `faults`. Null for kinds that end at their first fault.
  std::unique_ptr<TensorStore> (*try_open)(const std::string& path,
                                           const CheckpointOptions& options,
                                           Faults& faults) = nullptr;
  // Returns the files that hold the weights, for looking at each on its own. Null for kinds of one
  // file.
  std::vector<std::string> (*shards)(const std::string& path) = nullptr;
};

// Returns the table, in the order in which kinds are tried.
std::span<const ConverterInfo* const> AllConverters();

// Opens any checkpoint: a folder in Meta's or Hugging Face's layout, one .pth file with params.json
// or safetensors file with config.json beside it, or a model file (GGUF).
// Throws: Error kSystem "file.open" if there is nothing at `path`; kUsage "usage.name" if
// options.name is no UTF-8; kUnsupported "checkpoint.layout" for kinds that this version names but
// does not read (adapters, Mistral's layout, …); kData "input.unknown-format" otherwise; and
// whatever the converter throws.
std::unique_ptr<TensorStore> OpenCheckpoint(const std::string& path,
                                            const CheckpointOptions& options = {});

// Returns a model that comes as a stream, with what `options` replace (name, context length), as
// OpenCheckpoint does for a file of it.
// Throws: Error kUsage "usage.name" as above.
std::unique_ptr<TensorSource> WithOptions(std::unique_ptr<TensorSource> stream,
                                          const CheckpointOptions& options);

// Returns the files of weights of a checkpoint in Meta's or Hugging Face's layout, in the order in
// which they are joined; nothing for other paths.
std::vector<std::string> ShardsOf(const std::string& path);

// Returns the files that OpenCheckpoint(path) reads, and the folder's checklists, so that no output
// may replace one of them.
// A path of no known kind gives itself if it is a file, nothing if it is a folder.
std::vector<std::string> InputFilesOf(const std::string& path);

// Returns true if `path` is a file of weights that is no checkpoint by itself: no configuration is
// beside it, or it is one of several shards.
bool IsLoneShard(const std::string& path);

// Returns all faults of a checkpoint folder or file that can be told without looking at weights:
// missing, foreign or damaged shards, shards that disagree, tensors missing or of wrong shape.
// An empty list means that OpenCheckpoint succeeds. A lone shard is looked at by itself, which a
// note says. See also converters/checklist.h.
// Throws: Error kSystem if there is nothing at `path`.
std::vector<Finding> CheckCheckpoint(const std::string& path, const CheckpointOptions& options = {});

// Checks a configuration by itself (config.json, params.json, an index of shards, generation_config's
// ids), told by its members, as it is checked within its folder.
// Throws: Error as ParseHfConfig, ParseMetaParams and ParseWeightMap; nothing for other texts.
void CheckConfigFile(std::string_view text, const std::string& file);

// Returns the parts of a checkpoint in several files that can be opened each on its own, so that
// their weights can be checked even where the whole is damaged or not there: one store per sound
// shard, its tensors as in the file, sums not compared. Whatever cannot be opened is left out
// (CheckCheckpoint names it).
std::vector<std::unique_ptr<TensorStore>> OpenSoundParts(const std::string& path);

// Compares the CRC-32 of every entry of every shard that is a zip archive, and returns a finding for
// each that differs, in the order of the files, a warning for each shard without sums, and an error
// for each that cannot be read.
// Cost: reads all weights once.
std::vector<Finding> CheckSums(const std::string& path, Progress* progress = nullptr);

}  // namespace quern
