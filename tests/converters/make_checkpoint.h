// Makes small checkpoints in Meta's layout, for any generation and any number of shards, always from
// the same weights: what the releases look like, without the releases.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/core/dtype.h"
#include "tests/converters/torch_writer.h"

namespace quern::testing {

// The generations differ in params.json, vocabulary, split of the embedding and shapes.
enum class Generation : uint8_t { kLlama1, kLlama2, kCodeLlama, kLlama3, kLlama31, kLlama32Tied };

// How a shard's tensors lie in their storages.
enum class StorageStyle : uint8_t {
  kOwn,         // each tensor has its own, contiguous
  kShared,      // all tensors of a type in one storage, one behind the other
  kTransposed,  // matrices are transposed views: strides (1, rows)
  kPadded,      // rows are slices of wider rows, behind an offset
};

struct CheckpointShape {
  uint32_t dim = 64, n_layers = 2, n_heads = 16, n_kv_heads = 16;
  uint32_t multiple_of = 32;
  double ffn_dim_multiplier = 0;  // 0: not in params.json
  uint32_t vocab_size = 0;        // rows of the embedding; 0: as many as the vocabulary has tokens
  uint32_t head_dim() const { return dim / n_heads; }
};

struct CheckpointRecipe {
  Generation generation = Generation::kLlama2;
  CheckpointShape shape;
  uint32_t n_shards = 1;
  DType dtype = DType::kBF16;
  bool mixed_dtypes = false;  // norms f32, FFN matrices f16
  StorageStyle storage = StorageStyle::kOwn;
  TorchFileStyle file;
  bool rope_freqs = false;    // add the ignored table
  uint64_t seed = 1;
};

// A matrix or vector of the whole model.
struct WholeTensor {
  std::string name;  // Meta's
  uint64_t rows = 0, cols = 0;
  bool is_vector = false;
  std::vector<float> values;  // representable in every float type that recipes use
};

struct FileBytes {
  std::string name;
  std::vector<uint8_t> bytes;
};

// Units: rows of the feed-forward matrices by Meta's rule, written out again for the tests.
uint32_t FeedForwardSize(const CheckpointShape& shape);

// Returns the number of tokens that the generation's vocabulary has here.
uint32_t VocabularySize(Generation generation);

// Returns the unsharded weights.
std::vector<WholeTensor> MakeWeights(const CheckpointRecipe& recipe);

// Returns params.json, tokenizer.model and the shards.
std::vector<FileBytes> MakeCheckpoint(const CheckpointRecipe& recipe);

// Writes the files into `folder`, which is created.
void WriteFiles(const std::string& folder, const std::vector<FileBytes>& files);

// Returns a SentencePiece model with Llama's settings: three special pieces, those of the 256 bytes
// (unless told not to), then `extra` in order.
std::vector<uint8_t> MakeSentencePieceModel(const std::vector<std::string>& extra,
                                            bool with_bytes = true);
// Returns tiktoken ranks: the 256 bytes in GPT-2's order, then `extra` in order.
std::vector<uint8_t> MakeTiktokenRanks(const std::vector<std::string>& extra);

}  // namespace quern::testing
