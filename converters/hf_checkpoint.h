// Checkpoints in Hugging Face's layout: config.json, weights in safetensors or torch files, in one
// or many shards, and the files of a tokenizer. See HF.md.
#pragma once

#include <memory>
#include <string>

#include "converters/converters.h"
#include "converters/faults.h"

namespace quern {

// Opens a folder, or one safetensors file beside its config.json. Where anything is wrong,
// nothing is returned and `faults` holds all that can be told.
std::unique_ptr<TensorStore> TryOpenHfPath(const std::string& path,
                                           const CheckpointOptions& options, Faults& faults);

// The row of the table in converters.cc.
extern const ConverterInfo kHfConverter;

}  // namespace quern
