#include "converters/meta_layout.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <string>

#include "converters/meta_folder.h"
#include "converters/paths.h"
#include "converters/tied_output.h"
#include "formats/core/check.h"
#include "formats/core/checked.h"
#include "formats/core/hash.h"
#include "formats/core/name_list.h"
#include "formats/gguf_metadata.h"
#include "formats/model_tensors.h"

namespace quern {
namespace {

std::string TensorText(const TorchTensor& tensor) {
  return std::string(tensor.dtype_name) + " " + ShapeText(tensor.shape);
}

// Returns the offset in its file of a tensor's first element, if it has any.
std::optional<uint64_t> OffsetOf(const TorchCheckpoint& shard, const TorchTensor& tensor) {
  if (tensor.n_elems() == 0) return std::nullopt;
  return shard.storages()[tensor.storage].file_offset +
         tensor.storage_offset_elems * tensor.elem_bytes;
}

// Returns the error with the place of the tensor in the shard.
Error PlacedError(Error error, const TorchCheckpoint& shard, const TorchTensor& tensor) {
  error.File(shard.name()).Tensor(tensor.name);
  if (const auto offset = OffsetOf(shard, tensor)) error.Offset(*offset);
  return error;
}

// Returns the index of the first of the items that most others equal.
template <typename Items, typename Equal>
size_t MostCommon(const Items& items, Equal equal) {
  size_t best = 0, best_count = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    size_t count = 0;
    for (size_t k = 0; k < items.size(); ++k) count += equal(items[i], items[k]);
    if (count > best_count) best = i;
    best_count = std::max(best_count, count);
  }
  return best;
}

// Builds the layout step by step; each step adds to faults_ and later ones rely on the earlier.
class LayoutBuilder {
 public:
  LayoutBuilder(const MetaParams& params, std::span<const TorchCheckpoint> shards, Faults& faults)
      : params_(params), shards_(shards), faults_(faults) {}

  void CheckNames();
  bool CheckShardCount(uint64_t n_found);
  void CollectTensors();
  void FillSpec();
  void CheckShapes();
  MetaLayout Take() { return std::move(layout_); }

 private:
  // A matrix in shard 0, or null.
  const TorchTensor* FirstShardMatrix(std::string_view name) const {
    const TorchTensor* tensor = shards_[0].Find(name);
    return tensor && tensor->shape.size() == 2 && tensor->n_elems() > 0 ? tensor : nullptr;
  }
  std::optional<MergedTensor> Collect(const MetaTensorKind& kind, const std::string& name);
  bool SlicesAgree(const std::vector<const TorchTensor*>& slices);
  ShardSplit DecideSplit(const MetaTensorKind& kind, const TorchTensor& slice) const;
  void ReportMissing();
  uint64_t WholeRows(TensorRole role) const;

  const MetaParams& params_;
  std::span<const TorchCheckpoint> shards_;
  Faults& faults_;
  MetaLayout layout_;
  std::vector<std::string> missing_;  // names of the whole model
};

void LayoutBuilder::CheckNames() {
  for (const TorchCheckpoint& shard : shards_) {
    NameList unknown;
    for (const TorchTensor& tensor : shard.tensors()) {
      if (IsIgnoredMetaTensor(tensor.name)) continue;
      const auto parts = ParseMetaTensorName(tensor.name);
      if (parts && parts->layer.value_or(0) < params_.n_layers) continue;
      if (const auto kind = UnsupportedMetaTensor(tensor.name)) {
        faults_.Add(UnsupportedError("meta.release", "this is " + std::string(kind->what))
                        .File(shard.name())
                        .Tensor(tensor.name)
                        .Expected("a plain Llama in Meta's layout")
                        .Hint(kind->hint));
        return;
      }
      unknown.Add(tensor.name);
    }
    if (unknown.empty()) continue;
    faults_.Add(DataError("meta.unknown-tensor", "tensors that a Llama does not have")
                    .File(shard.name())
                    .Found(unknown.ToString())
                    .Expected("the tensors of " + std::to_string(params_.n_layers) +
                              " layers (n_layers in params.json)")
                    .Hint("check that params.json is of this checkpoint"));
  }
}

// Returns false where the shards cannot be the whole of a model as params.json describes it: then
// every further shape would be wrong too.
bool LayoutBuilder::CheckShardCount(uint64_t n_found) {
  const TorchTensor* wq = FirstShardMatrix("layers.0.attention.wq.weight");
  if (wq == nullptr) return true;  // reported as missing
  if (wq->cols() != params_.dim) {
    faults_.Add(PlacedError(DataError("meta.params-mismatch", "params.json is not of these weights"),
                            shards_[0], *wq)
                    .Found(ShapeText(wq->shape))
                    .Expected(std::to_string(params_.dim) + " columns (dim in params.json)")
                    .Hint("take params.json from the same release as the weights"));
    return false;
  }
  const uint64_t rows = wq->rows();
  if (params_.dim % rows != 0 || params_.dim / rows == n_found) return true;
  const uint64_t n_expected = params_.dim / rows;
  NameList names;
  for (uint64_t i = std::min(n_found, n_expected); i < std::max(n_found, n_expected); ++i) {
    names.Add(ShardName(static_cast<uint32_t>(i)));
  }
  const bool missing = n_found < n_expected;
  faults_.Add(DataError(missing ? "meta.shard-missing" : "meta.shard-surplus",
                        missing ? "shard files are missing" : "more shard files than the model has")
                  .File(shards_[0].name())
                  .Where("tensor 'layers.0.attention.wq.weight' is one of " +
                         std::to_string(n_expected) + " slices")
                  .Found(std::to_string(n_found) + " shards")
                  .Expected((missing ? "also " : "not ") + names.ToString())
                  .Hint(missing ? "give the folder with all shards; download those that are missing"
                                : "remove the shards of other checkpoints from the folder"));
  return false;
}

// The shards whose slices are not as most are belong to another checkpoint.
bool LayoutBuilder::SlicesAgree(const std::vector<const TorchTensor*>& slices) {
  const auto equal = [](const TorchTensor* a, const TorchTensor* b) {
    return a->shape == b->shape && a->dtype_name == b->dtype_name;
  };
  const size_t common = MostCommon(slices, equal);
  for (size_t i = 0; i < slices.size(); ++i) {
    if (equal(slices[i], slices[common])) continue;
    faults_.Add(PlacedError(DataError("meta.shard-mismatch", "shards disagree"), shards_[i],
                            *slices[i])
                    .Found(TensorText(*slices[i]))
                    .Expected(TensorText(*slices[common]) + " as in " + shards_[common].name())
                    .Hint("one of the files is of another checkpoint; download it again"));
    return false;
  }
  return true;
}

ShardSplit LayoutBuilder::DecideSplit(const MetaTensorKind& kind, const TorchTensor& slice) const {
  if (kind.split != ShardSplit::kEmbedding) return kind.split;
  // Llama 3 splits the embedding by rows, earlier generations by columns: shapes always tell.
  return slice.cols() == params_.dim ? ShardSplit::kRows : ShardSplit::kColumns;
}

// Returns the tensor with its slices, or nothing if it is missing or cannot be joined.
std::optional<MergedTensor> LayoutBuilder::Collect(const MetaTensorKind& kind,
                                                   const std::string& name) {
  std::vector<const TorchTensor*> slices;
  std::string holder, lacker;
  for (const TorchCheckpoint& shard : shards_) {
    const TorchTensor* tensor = shard.Find(name);
    (tensor ? holder : lacker) = shard.name();
    if (tensor) slices.push_back(tensor);
  }
  if (slices.empty()) {
    if (kind.role == TensorRole::kOutput) {
      layout_.spec.tied_embeddings = true;
    } else {
      missing_.push_back(name);
    }
    return std::nullopt;
  }
  if (!lacker.empty()) {
    const bool is_rare = slices.size() * 2 < shards_.size();
    faults_.Add(DataError("meta.shard-mismatch", is_rare
                                                     ? "a tensor is in some shards only"
                                                     : "a tensor is missing in some shards only")
                    .File(is_rare ? holder : lacker)
                    .Tensor(name)
                    .Expected("as in " + (is_rare ? lacker : holder))
                    .Hint("the file is damaged or of another checkpoint; download it again"));
    return std::nullopt;
  }
  if (!SlicesAgree(slices)) return std::nullopt;
  const TorchTensor& slice = *slices[0];
  if (!slice.dtype || !IsFloat(*slice.dtype)) {
    faults_.Add(PlacedError(UnsupportedError("meta.dtype", "weights of this type are not read"),
                            shards_[0], slice)
                    .Found(std::string(slice.dtype_name))
                    .Expected("float32, float16 or bfloat16")
                    .Hint("convert the bf16 release of the same model"));
    return std::nullopt;
  }
  const size_t rank = kind.split == ShardSplit::kReplicated ? 1 : 2;
  if (slice.shape.size() != rank || slice.n_elems() == 0) {
    faults_.Add(PlacedError(DataError("meta.tensor-shape",
                                      "tensor has the wrong number of dimensions"),
                            shards_[0], slice)
                    .Found(ShapeText(slice.shape))
                    .Expected(rank == 1 ? "a vector" : "a matrix"));
    return std::nullopt;
  }
  const auto whole_bytes = CheckedMul(slice.size_bytes(), slices.size());
  if (!whole_bytes || *whole_bytes > uint64_t{1} << 62) {
    faults_.Add(PlacedError(DataError("meta.tensor-shape", "tensor is too large"), shards_[0],
                            slice)
                    .Found(ShapeText(slice.shape)));
    return std::nullopt;
  }
  return MergedTensor{DecideSplit(kind, slice), std::move(slices)};
}

void LayoutBuilder::CollectTensors() {
  const auto add = [this](const MetaTensorKind& kind, std::optional<uint32_t> layer) {
    auto merged = Collect(kind, MetaTensorName(kind, layer.value_or(0)));
    if (!merged) return;
    const uint64_t rows = merged->rows(), cols = merged->cols();
    const std::vector<uint64_t> dims =
        kind.split == ShardSplit::kReplicated ? std::vector{cols} : std::vector{rows, cols};
    layout_.tensors.push_back({TensorName(kind.role, layer), kind.role, layer,
                               *merged->slices[0]->dtype, Shape::Make(dims).value()});
    layout_.merged.push_back(std::move(*merged));
  };
  const auto add_globals = [&](auto wanted) {
    for (const MetaTensorKind& kind : AllMetaTensors()) {
      if (!kind.per_layer && wanted(kind.role)) add(kind, std::nullopt);
    }
  };
  add_globals([](TensorRole role) { return role == TensorRole::kTokenEmbedding; });
  for (uint32_t layer = 0; layer < params_.n_layers; ++layer) {
    for (const MetaTensorKind& kind : AllMetaTensors()) {
      if (kind.per_layer) add(kind, layer);
    }
  }
  add_globals([](TensorRole role) { return role != TensorRole::kTokenEmbedding; });
  ReportMissing();
}

// One error that names every missing tensor.
void LayoutBuilder::ReportMissing() {
  if (missing_.empty()) return;
  constexpr size_t kPerLayer = 9;
  faults_.Add(DataError("meta.tensor-missing", "tensors are missing")
                  .File(shards_[0].name())
                  .Found(std::to_string(shards_[0].tensors().size()) + " tensors")
                  .Expected("also " + MissingTensors(missing_, "layers.", kPerLayer).ToString())
                  .Hint("check n_layers in params.json, or download the checkpoint again"));
}

// Returns the rows of the first tensor with that role, in the whole model; 0 if there is none.
uint64_t LayoutBuilder::WholeRows(TensorRole role) const {
  for (size_t i = 0; i < layout_.tensors.size(); ++i) {
    if (layout_.tensors[i].role == role) return layout_.tensors[i].rows();
  }
  return 0;
}

void LayoutBuilder::FillSpec() {
  ModelSpec& spec = layout_.spec;
  spec.arch = "llama";
  spec.n_layers = params_.n_layers;
  spec.n_heads = params_.n_heads;
  spec.head_dim = params_.head_dim();
  spec.d_model = params_.dim;
  spec.norm_eps = static_cast<float>(params_.norm_eps);
  const auto warn = [this](std::string_view what, uint64_t found, uint64_t expected) {
    faults_.Warn(DataError("meta.params-differ", what)
                     .File(shards_[0].name())
                     .Found(std::to_string(found))
                     .Expected(std::to_string(expected) + " by params.json; the tensors decide"));
  };
  // 405B in 16 parts states and stores 16 KV heads though there are 8: merged as they are.
  const uint64_t kv_rows = WholeRows(TensorRole::kAttnK), kv_heads = kv_rows / spec.head_dim;
  if (kv_rows % spec.head_dim != 0 || kv_heads == 0 || spec.n_heads % kv_heads != 0) {
    faults_.Add(DataError("meta.tensor-shape", "rows are no whole number of heads")
                    .File(shards_[0].name())
                    .Where("tensor 'layers.0.attention.wk.weight'")
                    .Found(std::to_string(kv_rows) + " rows in all shards")
                    .Expected("a number of heads of " + std::to_string(spec.head_dim) +
                              " rows that divides n_heads " + std::to_string(spec.n_heads)));
    return;
  }
  spec.n_kv_heads = static_cast<uint32_t>(kv_heads);
  const uint64_t stated_kv_heads = params_.n_kv_heads.value_or(params_.n_heads);
  if (kv_heads != stated_kv_heads) warn("number of KV heads", kv_heads, stated_kv_heads);

  const uint64_t d_ff = WholeRows(TensorRole::kFfnGate);
  spec.d_ff = static_cast<uint32_t>(d_ff);
  if (d_ff != FeedForwardRows(params_)) {
    warn("rows of the feed-forward matrices", d_ff, FeedForwardRows(params_));
  }
  const uint64_t vocab_size = WholeRows(TensorRole::kTokenEmbedding);
  spec.vocab_size = static_cast<uint32_t>(vocab_size);
  if (params_.vocab_size && *params_.vocab_size != vocab_size) {
    warn("vocabulary size", vocab_size, *params_.vocab_size);
  }
  // Both must fit a GGUF's u32.
  if (d_ff > kMaxVocabularyRows || vocab_size > kMaxVocabularyRows) {
    faults_.Add(UnsupportedError("meta.tensor-shape", "matrix has too many rows")
                    .File(shards_[0].name())
                    .Found(std::to_string(std::max(d_ff, vocab_size)))
                    .Expected("at most " + std::to_string(kMaxVocabularyRows)));
  }
}

void LayoutBuilder::CheckShapes() {
  for (size_t i = 0; i < layout_.tensors.size(); ++i) {
    const TensorInfo& tensor = layout_.tensors[i];
    const Shape expected = ShapeOfRole(layout_.spec, tensor.role);
    if (tensor.shape == expected) continue;
    const TorchTensor& slice = *layout_.merged[i].slices[0];
    faults_.Add(PlacedError(DataError("meta.tensor-shape", "tensor has the wrong shape"), shards_[0],
                            slice)
                    .Found(ShapeText(slice.shape) + " in each of " +
                           std::to_string(shards_.size()) + " shards, " + tensor.shape.ToString() +
                           " in all")
                    .Expected(expected.ToString()));
  }
}

}  // namespace

MetaLayout PlanMetaLayout(const MetaParams& params, std::span<const TorchCheckpoint> shards,
                          Faults& faults) {
  QUERN_CHECK(!shards.empty());
  // Later steps rely on the earlier ones of this layout, whatever else is wrong.
  Faults own;
  LayoutBuilder builder(params, shards, own);
  builder.CheckNames();
  if (builder.CheckShardCount(shards.size())) {
    builder.CollectTensors();
    if (!own.any()) builder.FillSpec();
    if (!own.any()) builder.CheckShapes();
  }
  faults.Append(std::move(own));
  return builder.Take();
}

void CheckSomeShards(const MetaParams& params, std::span<const TorchCheckpoint> shards,
                     size_t n_files, Faults& faults) {
  QUERN_CHECK(!shards.empty());
  LayoutBuilder builder(params, shards, faults);
  builder.CheckNames();
  if (n_files > 0 && !builder.CheckShardCount(n_files)) return;
  builder.CollectTensors();
  CheckReplicatedTensors(builder.Take(), shards, faults);
}

void CheckReplicatedTensors(const MetaLayout& layout, std::span<const TorchCheckpoint> shards,
                            Faults& faults) {
  if (shards.size() < 2) return;
  // No norm of a Llama is larger; the shape of such a tensor is among the faults.
  constexpr uint64_t kMaxBytes = uint64_t{1} << 24;
  std::vector<uint8_t> bytes, common_bytes;
  std::vector<uint64_t> hashes(shards.size());
  std::vector<bool> is_foreign(shards.size());
  for (const MergedTensor& merged : layout.merged) {
    if (merged.split != ShardSplit::kReplicated || merged.row_bytes() > kMaxBytes) continue;
    const auto read = [&](size_t i, std::vector<uint8_t>& out) {
      out.resize(merged.row_bytes());
      shards[i].ReadRows(*merged.slices[i], 0, 1, out);
    };
    for (size_t i = 0; i < shards.size(); ++i) {
      read(i, bytes);
      hashes[i] = Xxh3(bytes);
    }
    // Most of the copies are of the checkpoint that was meant, whichever shard comes first.
    const size_t common = MostCommon(hashes, std::equal_to<>());
    read(common, common_bytes);
    for (size_t i = 0; i < shards.size(); ++i) {
      if (is_foreign[i] || hashes[i] == hashes[common]) continue;
      is_foreign[i] = true;
      read(i, bytes);
      const auto differs = std::ranges::mismatch(bytes, common_bytes).in1 - bytes.begin();
      const auto elem = static_cast<uint64_t>(differs) / merged.slices[i]->elem_bytes;
      faults.Add(
          PlacedError(DataError("meta.shard-foreign", "copies of a replicated tensor differ"),
                      shards[i], *merged.slices[i])
              .Tensor(merged.slices[i]->name, "element " + std::to_string(elem))
              .Offset(ByteOffsetOf(shards[i], *merged.slices[i], 0, elem))
              .Expected("the values of " + shards[common].name())
              .Hint("the files are not of one checkpoint; compare them with checklist.chk"));
    }
  }
}

void CheckShardIdentity(std::span<const TorchCheckpoint> shards, Faults& faults) {
  const auto is_copy = [&](const TorchCheckpoint& a, const TorchCheckpoint& b) {
    // Files may be without sums: then every one is 0.
    const auto has_sum = [](const TorchStorage& storage) { return storage.crc32 != 0; };
    return std::ranges::any_of(a.storages(), has_sum) &&
           std::ranges::equal(a.storages(), b.storages(), [](const auto& x, const auto& y) {
             return x.crc32 == y.crc32 && x.size_bytes == y.size_bytes;
           });
  };
  for (size_t i = 0; i < shards.size(); ++i) {
    for (size_t k = 0; k < i; ++k) {
      if (!is_copy(shards[i], shards[k])) continue;
      faults.Add(DataError("meta.shard-duplicate", "two shards hold the same weights")
                     .File(shards[i].name())
                     .Found("the sums of " + shards[k].name())
                     .Expected("another slice of the weights")
                     .Hint("one of the files is a copy under a wrong name; download it again"));
      break;
    }
    if (shards[i].storages().empty()) continue;
    // torch.save names the folder in the archive after the file.
    const std::string_view entry = shards[i].storages()[0].entry;
    const std::string saved = std::string(entry.substr(0, entry.find('/'))) + ".pth";
    const auto number = ShardNumber(BaseName(shards[i].name()));
    if (!number || !ShardNumber(saved) || ShardNumber(saved) == number) continue;
    faults.Warn(DataError("meta.shard-renamed", "shard was saved under another number")
                    .File(shards[i].name())
                    .Found(Quoted(saved))
                    .Expected(ShardName(*number))
                    .Hint("compare the files with checklist.chk: shards may be swapped"));
  }
}

void DropTiedOutput(MetaLayout& layout, std::span<const TorchCheckpoint> shards) {
  const auto read = [&](size_t tensor, uint64_t row, uint64_t n, MutableByteView out) {
    ReadMergedRows(layout.merged[tensor], shards, row, n, out);
  };
  if (!OutputIsEmbedding(layout.tensors, read)) return;
  layout.tensors.pop_back();
  layout.merged.pop_back();
  layout.spec.tied_embeddings = true;
}

}  // namespace quern
