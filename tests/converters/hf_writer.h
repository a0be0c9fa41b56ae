// Writes a model as Hugging Face's tools would: config.json, safetensors or torch files, in one or
// many shards, a tokenizer. Written apart from the reader: names and the order of rows stand here
// again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/core/stream.h"
#include "tests/converters/make_checkpoint.h"

namespace quern::testing {

struct SavedTensor {
  std::string name, dtype;  // "F32", "BF16", "F8_E4M3", …
  std::vector<uint64_t> shape;
  std::vector<uint8_t> bytes;
};

// Returns the bytes of a safetensors file, tensors in the given order.
std::vector<uint8_t> WriteSafetensors(const std::vector<SavedTensor>& tensors);
// Returns the bytes of a torch file with float tensors.
std::vector<uint8_t> WriteTorchBin(const std::vector<SavedTensor>& tensors);

struct HfStyle {
  bool torch = false;     // pytorch_model*.bin instead of model*.safetensors
  uint32_t n_shards = 1;  // more than one: with an index
};

// Returns the tensors of a model with Hugging Face's names and order of rows.
std::vector<SavedTensor> HfTensorsOf(const TensorStore& model);
// Returns config.json of a model, with `more` members (", \"key\": value") at its end.
std::string HfConfigOf(const TensorStore& model, const std::string& more = "");
// Returns tokenizer.json of a vocabulary.
std::string TokenizerJsonOf(const Tokenizer& tokenizer);
// Returns the files of weights, with their index.
std::vector<FileBytes> SaveWeights(const std::vector<SavedTensor>& tensors, const HfStyle& style);

// Returns a text as a file.
FileBytes TextFileBytes(const std::string& name, const std::string& text);

}  // namespace quern::testing
