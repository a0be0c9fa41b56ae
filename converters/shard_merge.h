// Joins the slices of tensor-parallel shards, a band of rows at a time: merging never needs more
// than the rows that are asked for.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "converters/llama_names.h"
#include "formats/core/bytes.h"
#include "formats/torch_checkpoint.h"

namespace quern {

// One tensor of the whole model, with its slice in each shard.
struct MergedTensor {
  // kRows, kColumns or kReplicated: kEmbedding has been decided. A replicated tensor is read from
  // the first shard.
  ShardSplit split = ShardSplit::kReplicated;
  std::vector<const TorchTensor*> slices;  // one per shard, of equal shape and type

  // Shape: [rows, cols] of the whole tensor.
  // Requires: the products fit 64 bits (checked where the MergedTensor was made).
  uint64_t rows() const;
  uint64_t cols() const;
  uint64_t row_bytes() const { return cols() * slices[0]->elem_bytes; }
};

// Copies rows [begin, begin + count) of the whole tensor.
// Requires: shards[i] holds slices[i]; the rows exist; out.size() == count * row_bytes().
// Throws: as TorchCheckpoint::ReadRows.
// Cost: for kColumns one shard's slice of the rows besides `out`, at most 1 MiB at a time.
void ReadMergedRows(const MergedTensor& tensor, std::span<const TorchCheckpoint> shards,
                    uint64_t begin, uint64_t count, MutableByteView out);

// Where an element of the whole tensor is stored.
struct MergedPlace {
  size_t shard = 0;
  uint64_t byte_offset = 0;  // in the shard's file
};
// Requires: as ReadMergedRows; the element exists.
MergedPlace PlaceOfMerged(const MergedTensor& tensor, std::span<const TorchCheckpoint> shards,
                          uint64_t row, uint64_t col);

// Returns the offset in its file of an element of one shard's tensor, a vector or matrix.
uint64_t ByteOffsetOf(const TorchCheckpoint& shard, const TorchTensor& tensor, uint64_t row,
                      uint64_t col);

}  // namespace quern
