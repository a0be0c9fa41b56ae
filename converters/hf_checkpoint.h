// Checkpoints in Hugging Face's layout: config.json, weights in safetensors or torch files, in one
// or many shards, and the files of a tokenizer. See HF.md.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "converters/converters.h"
#include "converters/faults.h"
#include "converters/hf_tokenizer.h"
#include "formats/core/file.h"

namespace quern {

// The files of one checkpoint, wherever they come from.
struct HfFiles {
  std::string name;  // of the folder, for messages
  HfTokenizerFiles side_files;
  std::optional<TextFile> index;
  std::vector<std::shared_ptr<const RandomAccessBytes>> weights;  // named as in the index
};

// Opens a checkpoint from its files.
// Throws: the first of the faults, as OpenCheckpoint.
std::unique_ptr<TensorStore> OpenHfFiles(HfFiles files, const CheckpointOptions& options);

// Opens a folder, or one file of weights with its config.json beside it. Where anything but a warning
// is added to `faults`, which then hold all that can be told, nothing is returned.
std::unique_ptr<TensorStore> TryOpenHfPath(const std::string& path,
                                           const CheckpointOptions& options, Faults& faults);

// The row of the table in converters.cc.
extern const ConverterInfo kHfConverter;

}  // namespace quern
