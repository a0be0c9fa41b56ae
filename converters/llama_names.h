// Meta's tensor names and what they mean: role, layer and how shards split them.
// Source: llama/model.py of meta-llama/llama and meta-llama/llama3 (the parallel layers each matrix
// is made of).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "formats/core/tensor.h"

namespace quern {

// How tensor-parallel shards divide a tensor: in equal contiguous slices, in rank order.
enum class ShardSplit : uint8_t {
  kRows,        // dimension 0: ColumnParallelLinear splits the outputs
  kColumns,     // dimension 1: RowParallelLinear splits the inputs
  kReplicated,  // every shard has the whole tensor
  kEmbedding,   // columns in Llama 1, 2 and Code Llama, rows from Llama 3 on: shapes decide
};

struct MetaTensorKind {
  TensorRole role;
  std::string_view name;  // within its layer for per-layer roles: "attention.wq.weight"
  ShardSplit split;
  bool per_layer;
};

// Returns the table, in quern's canonical order.
std::span<const MetaTensorKind> AllMetaTensors();

// Returns Meta's name of a tensor, e.g. "layers.3.attention.wq.weight".
std::string MetaTensorName(const MetaTensorKind& kind, uint32_t layer);

struct MetaNameParts {
  const MetaTensorKind* kind;
  std::optional<uint32_t> layer;
};
// Returns what `name` means, or nothing if Meta's plain models have no such tensor. Layers are
// written without leading zeros and are below 65,536.
std::optional<MetaNameParts> ParseMetaTensorName(std::string_view name);

// Returns true for tensors that releases contain but that a model does not need: the tables of
// rotation angles, which are computed from rope_theta.
bool IsIgnoredMetaTensor(std::string_view name);

// A kind of checkpoint that quern does not read as Meta's, and what to do instead.
struct ForeignRelease {
  std::string_view what;  // "a vision model"
  std::string_view hint;
};
// Returns the kind that a tensor of this name belongs to, or nothing.
std::optional<ForeignRelease> UnsupportedMetaTensor(std::string_view name);

}  // namespace quern
