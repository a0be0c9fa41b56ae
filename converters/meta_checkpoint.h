// Checkpoints in Meta's layout: params.json, consolidated.NN.pth, tokenizer.model. Llama 1 to 3.3 and
// Code Llama, in any number of shards.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "converters/converters.h"
#include "converters/faults.h"
#include "formats/core/file.h"

namespace quern {

// The files of one checkpoint, wherever they come from.
struct MetaFiles {
  std::string name;  // of the folder, for messages
  std::string params_file, params_text;
  std::string tokenizer_file;
  std::string tokenizer_bytes;
  std::vector<std::shared_ptr<const RandomAccessBytes>> shards;  // in rank order
};

// Opens a checkpoint from its files.
// Throws: the first of the faults, as OpenCheckpoint.
std::unique_ptr<TensorStore> OpenMetaFiles(MetaFiles files, const CheckpointOptions& options);

// The same over a folder or one .pth file. Where anything is wrong, nothing is returned and `faults`
// holds all that can be told.
std::unique_ptr<TensorStore> TryOpenMetaPath(const std::string& path,
                                             const CheckpointOptions& options, Faults& faults);

// The row of the table in converters.cc.
extern const ConverterInfo kMetaConverter;

}  // namespace quern
