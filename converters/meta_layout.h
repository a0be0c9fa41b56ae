// What the shards of a checkpoint in Meta's layout amount to: the whole model's tensors in canonical
// order, how each is joined, and the numbers of its graph.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "converters/faults.h"
#include "converters/params_json.h"
#include "converters/shard_merge.h"
#include "formats/core/model_spec.h"
#include "formats/core/tensor.h"
#include "formats/torch_checkpoint.h"

namespace quern {

// Rows of the largest matrices, far above any real model.
inline constexpr uint64_t kMaxVocabularyRows = 1u << 22;

struct MetaLayout {
  ModelSpec spec;                    // without context_length and rope_theta
  std::vector<TensorInfo> tensors;   // canonical order, types as stored
  std::vector<MergedTensor> merged;  // one per tensor; points into the shards
};

// Returns the layout. Shapes decide what params.json leaves open (vocabulary, rows of the
// feed-forward matrices, KV heads, which way the embedding is split); where both speak and differ,
// the tensors are right and a warning says so. Everything that keeps the model from being whole is
// added to `faults`, and the layout is then not to be used.
// Requires: `shards`, in rank order, outlive the layout and do not move.
MetaLayout PlanMetaLayout(const MetaParams& params, std::span<const TorchCheckpoint> shards,
                          Faults& faults);

// Adds what is wrong among some of a model's shards, where others are missing or cannot be read:
// shards of other models, and files that are too few or too many. `n_files` is the number of shard
// files with those that cannot be read; 0: their names have gaps, so that it says nothing.
// Requires: `shards` in rank order. Throws: as ReadRows.
void CheckSomeShards(const MetaParams& params, std::span<const TorchCheckpoint> shards,
                     size_t n_files, Faults& faults);

// Adds each shard whose copy of a replicated tensor is another than most shards have: it is of
// another model. The layout may be one with faults.
// Throws: as ReadRows.
void CheckReplicatedTensors(const MetaLayout& layout, std::span<const TorchCheckpoint> shards,
                            Faults& faults);

// Adds each shard that is a copy of another one, by the sums in the archives' directories, and a
// warning for each that was saved under another number.
void CheckShardIdentity(std::span<const TorchCheckpoint> shards, Faults& faults);

// Drops output.weight where its bytes equal those of tok_embeddings.weight (Llama 3.2 1B and 3B
// ship both), and sets spec.tied_embeddings.
// Throws: as ReadRows. Cost: reads both matrices up to the first difference.
void DropTiedOutput(MetaLayout& layout, std::span<const TorchCheckpoint> shards);

}  // namespace quern
