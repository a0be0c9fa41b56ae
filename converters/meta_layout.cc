#include "converters/meta_layout.h"

#include <algorithm>
#include <optional>
#include <string>

#include "converters/meta_folder.h"
#include "formats/core/check.h"
#include "formats/core/checked.h"
#include "formats/gguf_metadata.h"

namespace quern {
namespace {

std::string ShapeText(std::span<const uint64_t> dims) {
  std::string text = "[";
  for (size_t i = 0; i < dims.size(); ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}

std::string TensorText(const TorchTensor& tensor) {
  return std::string(tensor.dtype_name) + " " + ShapeText(tensor.shape);
}

// Returns the names, comma separated; beyond the first ones only their number.
std::string JoinNames(const std::vector<std::string>& names) {
  constexpr size_t kShown = 24;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > kShown) text += " and " + std::to_string(names.size() - kShown) + " more";
  return text;
}

// Builds the layout step by step; each step adds to faults_ and later ones rely on the earlier.
class LayoutBuilder {
 public:
  LayoutBuilder(const MetaParams& params, std::span<const TorchCheckpoint> shards, Faults& faults)
      : params_(params), shards_(shards), faults_(faults) {}

  void CheckNames(bool ignore_unknown_tensors);
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
  bool SlicesAgree(const std::string& name, const std::vector<const TorchTensor*>& slices);
  ShardSplit DecideSplit(const MetaTensorKind& kind, const TorchTensor& slice) const;
  void ReportMissing();
  uint64_t WholeRows(TensorRole role) const;
  std::vector<uint64_t> ExpectedShape(TensorRole role) const;

  const MetaParams& params_;
  std::span<const TorchCheckpoint> shards_;
  Faults& faults_;
  MetaLayout layout_;
  std::vector<std::string> missing_;  // names of the whole model
};

void LayoutBuilder::CheckNames(bool ignore_unknown_tensors) {
  for (const TorchCheckpoint& shard : shards_) {
    std::vector<std::string> unknown;
    for (const TorchTensor& tensor : shard.tensors()) {
      if (IsIgnoredMetaTensor(tensor.name)) continue;
      const auto parts = ParseMetaTensorName(tensor.name);
      if (parts && parts->layer.value_or(0) < params_.n_layers) continue;
      if (const auto kind = UnsupportedMetaTensor(tensor.name)) {
        faults_.Add(UnsupportedError("meta.release", "this is " + std::string(kind->what))
                        .File(shard.name())
                        .Where("tensor " + Quoted(tensor.name))
                        .Expected("a plain Llama in Meta's layout")
                        .Hint(kind->hint));
        return;
      }
      unknown.push_back(Quoted(tensor.name));
    }
    if (unknown.empty()) continue;
    Error error = DataError("meta.unknown-tensor", "tensors that a Llama does not have")
                      .File(shard.name())
                      .Found(JoinNames(unknown))
                      .Expected("the tensors of " + std::to_string(params_.n_layers) +
                                " layers (n_layers in params.json)");
    if (ignore_unknown_tensors) {
      faults_.Warn(error);
    } else {
      faults_.Add(error.Hint("check that params.json is of this checkpoint"));
    }
  }
}

// Returns false where the shards cannot be the whole of a model as params.json describes it: then
// every further shape would be wrong too.
bool LayoutBuilder::CheckShardCount(uint64_t n_found) {
  const TorchTensor* wq = FirstShardMatrix("layers.0.attention.wq.weight");
  if (wq == nullptr) return true;  // reported as missing
  if (wq->cols() != params_.dim) {
    faults_.Add(DataError("meta.params-mismatch", "params.json is not of these weights")
                    .File(shards_[0].name())
                    .Where("tensor 'layers.0.attention.wq.weight'")
                    .Found(ShapeText(wq->shape))
                    .Expected(std::to_string(params_.dim) + " columns (dim in params.json)")
                    .Hint("take params.json from the same release as the weights"));
    return false;
  }
  const uint64_t rows = wq->rows();
  if (params_.dim % rows != 0 || params_.dim / rows == n_found) return true;
  const uint64_t n_expected = params_.dim / rows;
  std::vector<std::string> names;
  for (uint64_t i = std::min(n_found, n_expected); i < std::max(n_found, n_expected); ++i) {
    names.push_back(ShardName(static_cast<uint32_t>(i)));
  }
  const bool missing = n_found < n_expected;
  faults_.Add(DataError(missing ? "meta.shard-missing" : "meta.shard-surplus",
                        missing ? "shard files are missing" : "more shard files than the model has")
                  .File(shards_[0].name())
                  .Where("tensor 'layers.0.attention.wq.weight' is one of " +
                         std::to_string(n_expected) + " slices")
                  .Found(std::to_string(n_found) + " shards")
                  .Expected((missing ? "also " : "not ") + JoinNames(names))
                  .Hint(missing ? "give the folder with all shards; download those that are missing"
                                : "remove the shards of other checkpoints from the folder"));
  return false;
}

bool LayoutBuilder::SlicesAgree(const std::string& name,
                                const std::vector<const TorchTensor*>& slices) {
  for (size_t i = 1; i < slices.size(); ++i) {
    if (slices[i]->shape == slices[0]->shape && slices[i]->dtype_name == slices[0]->dtype_name) {
      continue;
    }
    faults_.Add(DataError("meta.shard-mismatch", "shards disagree")
                    .File(shards_[i].name())
                    .Where("tensor " + Quoted(name))
                    .Found(TensorText(*slices[i]))
                    .Expected(TensorText(*slices[0]) + " as in " + shards_[0].name())
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
    faults_.Add(DataError("meta.shard-mismatch", "a tensor is missing in one shard only")
                    .File(lacker)
                    .Where("tensor " + Quoted(name))
                    .Expected("as in " + holder)
                    .Hint("the file is damaged or of another checkpoint; download it again"));
    return std::nullopt;
  }
  if (!SlicesAgree(name, slices)) return std::nullopt;
  const TorchTensor& slice = *slices[0];
  if (!slice.dtype || !IsFloat(*slice.dtype)) {
    faults_.Add(UnsupportedError("meta.dtype", "weights of this type are not read")
                    .File(shards_[0].name())
                    .Where("tensor " + Quoted(name))
                    .Found(std::string(slice.dtype_name))
                    .Expected("float32, float16 or bfloat16")
                    .Hint("convert the bf16 release of the same model"));
    return std::nullopt;
  }
  const size_t rank = kind.split == ShardSplit::kReplicated ? 1 : 2;
  if (slice.shape.size() != rank || slice.n_elems() == 0) {
    faults_.Add(DataError("meta.tensor-shape", "tensor has the wrong number of dimensions")
                    .File(shards_[0].name())
                    .Where("tensor " + Quoted(name))
                    .Found(ShapeText(slice.shape))
                    .Expected(rank == 1 ? "a vector" : "a matrix"));
    return std::nullopt;
  }
  const auto whole_bytes = CheckedMul(slice.size_bytes(), slices.size());
  if (!whole_bytes || *whole_bytes > uint64_t{1} << 62) {
    faults_.Add(DataError("meta.tensor-shape", "tensor is too large")
                    .File(shards_[0].name())
                    .Where("tensor " + Quoted(name))
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

// One error that names every missing tensor; layers of which nothing is there as "layers.N.*".
void LayoutBuilder::ReportMissing() {
  if (missing_.empty()) return;
  constexpr size_t kPerLayer = 9;
  std::vector<std::string> names;
  for (size_t i = 0; i < missing_.size();) {
    const size_t dot = missing_[i].starts_with("layers.") ? missing_[i].find('.', 7) + 1 : 0;
    const std::string layer = missing_[i].substr(0, dot);
    size_t end = i + 1;
    while (dot > 0 && end < missing_.size() && missing_[end].starts_with(layer)) ++end;
    if (end - i == kPerLayer) {
      names.push_back(layer + "*");
    } else {
      names.insert(names.end(), missing_.begin() + static_cast<ptrdiff_t>(i),
                   missing_.begin() + static_cast<ptrdiff_t>(end));
    }
    i = end;
  }
  faults_.Add(DataError("meta.tensor-missing", "tensors are missing")
                  .File(shards_[0].name())
                  .Found(std::to_string(shards_[0].tensors().size()) + " tensors")
                  .Expected("also " + JoinNames(names))
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
  constexpr uint64_t kMaxRows = 1u << 22;  // far above any real model; both must fit a GGUF's u32
  if (d_ff > kMaxRows || vocab_size > kMaxRows) {
    faults_.Add(UnsupportedError("meta.tensor-shape", "matrix has too many rows")
                    .File(shards_[0].name())
                    .Found(std::to_string(std::max(d_ff, vocab_size)))
                    .Expected("at most " + std::to_string(kMaxRows)));
  }
}

std::vector<uint64_t> LayoutBuilder::ExpectedShape(TensorRole role) const {
  const ModelSpec& spec = layout_.spec;
  const uint64_t d = spec.d_model, q = uint64_t{spec.n_heads} * spec.head_dim;
  const uint64_t kv = uint64_t{spec.n_kv_heads} * spec.head_dim;
  switch (role) {
    case TensorRole::kTokenEmbedding:
    case TensorRole::kOutput: return {spec.vocab_size, d};
    case TensorRole::kAttnQ: return {q, d};
    case TensorRole::kAttnK:
    case TensorRole::kAttnV: return {kv, d};
    case TensorRole::kAttnOutput: return {d, q};
    case TensorRole::kFfnGate:
    case TensorRole::kFfnUp: return {spec.d_ff, d};
    case TensorRole::kFfnDown: return {d, spec.d_ff};
    default: return {d};  // norms
  }
}

void LayoutBuilder::CheckShapes() {
  for (size_t i = 0; i < layout_.tensors.size(); ++i) {
    const TensorInfo& tensor = layout_.tensors[i];
    const std::vector<uint64_t> expected = ExpectedShape(tensor.role);
    if (tensor.shape == Shape::Make(expected)) continue;
    const TorchTensor& slice = *layout_.merged[i].slices[0];
    faults_.Add(DataError("meta.tensor-shape", "tensor has the wrong shape")
                    .File(shards_[0].name())
                    .Where("tensor " + Quoted(slice.name))
                    .Found(ShapeText(slice.shape) + " in each of " +
                           std::to_string(shards_.size()) + " shards, " + tensor.shape.ToString() +
                           " in all")
                    .Expected(ShapeText(expected)));
  }
}

}  // namespace

MetaLayout PlanMetaLayout(const MetaParams& params, std::span<const TorchCheckpoint> shards,
                          bool ignore_unknown_tensors, Faults& faults) {
  QUERN_CHECK(!shards.empty());
  LayoutBuilder builder(params, shards, faults);
  builder.CheckNames(ignore_unknown_tensors);
  if (!builder.CheckShardCount(shards.size())) return builder.Take();
  builder.CollectTensors();
  if (faults.any()) return builder.Take();
  builder.FillSpec();
  if (!faults.any()) builder.CheckShapes();
  return builder.Take();
}

void CheckSomeShards(const MetaParams& params, std::span<const TorchCheckpoint> shards,
                     size_t n_files, bool ignore_unknown_tensors, Faults& faults) {
  QUERN_CHECK(!shards.empty());
  LayoutBuilder builder(params, shards, faults);
  builder.CheckNames(ignore_unknown_tensors);
  if (n_files > 0 && !builder.CheckShardCount(n_files)) return;
  builder.CollectTensors();
  CheckReplicatedTensors(builder.Take(), shards, faults);
}

void CheckReplicatedTensors(const MetaLayout& layout, std::span<const TorchCheckpoint> shards,
                            Faults& faults) {
  // No norm of a Llama is larger; the shape of such a tensor is among the faults.
  constexpr uint64_t kMaxBytes = uint64_t{1} << 24;
  std::vector<uint8_t> first, other;
  std::vector<bool> is_foreign(shards.size());
  for (const MergedTensor& merged : layout.merged) {
    if (merged.split != ShardSplit::kReplicated || merged.row_bytes() > kMaxBytes) continue;
    first.resize(merged.row_bytes());
    other.resize(merged.row_bytes());
    shards[0].ReadRows(*merged.slices[0], 0, 1, first);
    for (size_t i = 1; i < shards.size(); ++i) {
      if (is_foreign[i]) continue;
      shards[i].ReadRows(*merged.slices[i], 0, 1, other);
      const auto differs = std::mismatch(first.begin(), first.end(), other.begin());
      if (differs.first == first.end()) continue;
      const auto elem = static_cast<uint64_t>(differs.first - first.begin()) /
                        merged.slices[0]->elem_bytes;
      faults.Add(DataError("meta.shard-foreign", "copies of a replicated tensor differ")
                     .File(shards[i].name())
                     .Where("tensor " + Quoted(merged.slices[i]->name) + ", element " +
                            std::to_string(elem))
                     .Expected("the values of " + shards[0].name())
                     .Hint("the files are not of one checkpoint; compare them with checklist.chk"));
      is_foreign[i] = true;
    }
  }
}

void DropTiedOutput(MetaLayout& layout, std::span<const TorchCheckpoint> shards) {
  if (layout.tensors.back().role != TensorRole::kOutput) return;  // there is none: tied already
  const TensorInfo& embedding = layout.tensors.front();
  const TensorInfo& output = layout.tensors.back();
  if (embedding.dtype != output.dtype || embedding.shape != output.shape) return;
  // A few rows settle it for untied models.
  const uint64_t row_bytes = output.row_bytes();
  uint64_t rows_at_once = 1;
  std::vector<uint8_t> left, right;
  for (uint64_t row = 0; row < output.rows();) {
    const uint64_t n = std::min(rows_at_once, output.rows() - row);
    left.resize(n * row_bytes);
    right.resize(n * row_bytes);
    ReadMergedRows(layout.merged.front(), shards, row, n, left);
    ReadMergedRows(layout.merged.back(), shards, row, n, right);
    if (left != right) return;
    row += n;
    rows_at_once = std::clamp<uint64_t>((1u << 20) / row_bytes, 1, rows_at_once * 2);
  }
  layout.tensors.pop_back();
  layout.merged.pop_back();
  layout.spec.tied_embeddings = true;
}

}  // namespace quern
