#include "converters/hf_layout.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "converters/float8.h"
#include "converters/hf_names.h"
#include "formats/core/check.h"
#include "formats/core/checked.h"
#include "formats/core/half.h"
#include "formats/gguf_metadata.h"

namespace quern {
namespace {

// Returns the names, comma separated; beyond the first ones only their number.
std::string JoinNames(const std::vector<std::string>& names) {
  constexpr size_t kShown = 24;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) {
    text += (i > 0 ? ", " : "") + Escaped(names[i]);
  }
  if (names.size() > kShown) text += " and " + std::to_string(names.size() - kShown) + " more";
  return text;
}

// Returns the base name of a path.
std::string_view FileNameOf(std::string_view path) {
  return path.substr(path.find_last_of('/') + 1);
}

// Builds the layout step by step; each step adds to faults_ and later ones rely on the earlier.
class LayoutBuilder {
 public:
  LayoutBuilder(const HfConfig& config, const HfFolder& folder,
                std::span<const std::unique_ptr<WeightFile>> files, Faults& faults)
      : config_(config), folder_(folder), files_(files), faults_(faults) {}

  void CollectNames();
  void CheckIndex();
  void FillSpec();
  void CollectTensors();
  void CheckLeftovers(bool ignore_unknown_tensors);
  HfLayout Take() { return std::move(layout_); }

 private:
  struct Place {
    StoredTensor stored;
    bool used = false;
  };

  // Returns the tensor and marks it as used, or null.
  const StoredTensor* Use(const std::string& name);
  void Collect(const HfTensorKind& kind, std::optional<uint32_t> layer);
  bool FindScales(const std::string& name, HfTensor& tensor);
  std::vector<uint64_t> ExpectedShape(TensorRole role) const;
  void ReportMissing();
  Error Bad(std::string_view id, std::string_view what, const StoredTensor& stored) const {
    return DataError(id, what)
        .File(stored.file->name())
        .Where("tensor " + Quoted(stored.info().name))
        .Found(stored.info().dtype_name + " " + stored.info().ShapeText());
  }

  const HfConfig& config_;
  const HfFolder& folder_;
  std::span<const std::unique_ptr<WeightFile>> files_;
  Faults& faults_;
  std::map<std::string, Place, std::less<>> places_;  // by the full name
  std::vector<std::string> missing_;
  HfLayout layout_;
};

// Names stand with "model." in whole models; a LlamaModel saved alone has none.
std::string FullName(std::string_view name) {
  const bool is_bare =
      name.starts_with("layers.") || name.starts_with("embed_tokens.") || name == "norm.weight";
  return (is_bare ? "model." : "") + std::string(name);
}

void LayoutBuilder::CollectNames() {
  for (const auto& file : files_) {
    for (size_t i = 0; i < file->tensors().size(); ++i) {
      const std::string& name = file->tensors()[i].name;
      const auto [it, inserted] = places_.emplace(FullName(name), Place{{file.get(), i}});
      if (inserted || IsIgnoredHfTensor(name)) continue;
      faults_.Add(DataError("hf.duplicate-tensor", "a tensor is in two files")
                      .File(file->name())
                      .Where("tensor " + Quoted(name))
                      .Found("also in " + it->second.stored.file->name())
                      .Expected("each tensor once")
                      .Hint("a shard of another download is among them; fetch the folder again"));
    }
  }
}

// Compares the index with what the shards hold.
void LayoutBuilder::CheckIndex() {
  if (!folder_.index) return;
  for (const auto& [name, shard] : folder_.weight_map) {
    const auto it = places_.find(FullName(name));
    if (it != places_.end() && FileNameOf(it->second.stored.file->name()) == shard) continue;
    if (IsIgnoredHfTensor(name)) continue;
    faults_.Add(DataError("index.tensor-missing", "the index names a tensor that its shard lacks")
                    .File(*folder_.index)
                    .Where("tensor " + Quoted(name))
                    .Found(it == places_.end()
                               ? "none in " + Quoted(shard)
                               : "it in " + Quoted(FileNameOf(it->second.stored.file->name())))
                    .Expected("it in " + Quoted(shard))
                    .Hint("index and shards are of different downloads; fetch the folder again"));
    return;  // further ones would say the same
  }
  std::vector<std::string> unlisted;
  for (const auto& [name, place] : places_) {
    const std::string& stored = place.stored.info().name;
    if (!folder_.weight_map.contains(stored) && !IsIgnoredHfTensor(stored))
      unlisted.push_back(stored);
  }
  if (unlisted.empty()) return;
  faults_.Warn(
      DataError("index.tensor-unlisted", "shards hold tensors that the index does not name")
          .File(*folder_.index)
          .Found(JoinNames(unlisted)));
}

const StoredTensor* LayoutBuilder::Use(const std::string& name) {
  const auto it = places_.find(name);
  if (it == places_.end()) return nullptr;
  it->second.used = true;
  return &it->second.stored;
}

void LayoutBuilder::FillSpec() {
  ModelSpec& spec = layout_.spec;
  spec.arch = "llama";
  spec.n_layers = config_.n_layers;
  spec.n_heads = config_.n_heads;
  spec.n_kv_heads = config_.n_kv_heads;
  spec.head_dim = config_.head_dim;
  spec.d_model = config_.hidden_size;
  spec.d_ff = config_.intermediate_size;
  spec.vocab_size = config_.vocab_size;
  spec.context_length = config_.context_length;
  spec.norm_eps = static_cast<float>(config_.norm_eps);
  spec.rope_theta = static_cast<float>(config_.rope_theta);
  if (config_.rope_linear_factor) {
    spec.rope_linear_factor = static_cast<float>(*config_.rope_linear_factor);
  }
  spec.tied_embeddings = config_.tied_embeddings;
  const auto embedding = places_.find("model.embed_tokens.weight");
  if (embedding == places_.end()) return;  // reported as missing
  const WeightTensor& info = embedding->second.stored.info();
  constexpr uint64_t kMaxRows = 1u << 22;
  if (info.shape.size() != 2 || info.rows() == spec.vocab_size || info.rows() > kMaxRows) return;
  faults_.Warn(
      Bad("hf.config-differs", "vocabulary size", embedding->second.stored)
          .Expected(std::to_string(spec.vocab_size) + " rows by config.json; the tensor decides"));
  spec.vocab_size = static_cast<uint32_t>(info.rows());
}

std::vector<uint64_t> LayoutBuilder::ExpectedShape(TensorRole role) const {
  const ModelSpec& spec = layout_.spec;
  const uint64_t d = spec.d_model, q = uint64_t{spec.n_heads} * spec.head_dim;
  const uint64_t kv = uint64_t{spec.n_kv_heads} * spec.head_dim;
  switch (role) {
    case TensorRole::kTokenEmbedding:
    case TensorRole::kOutput:
      return {spec.vocab_size, d};
    case TensorRole::kAttnQ:
      return {q, d};
    case TensorRole::kAttnK:
    case TensorRole::kAttnV:
      return {kv, d};
    case TensorRole::kAttnOutput:
      return {d, q};
    case TensorRole::kFfnGate:
    case TensorRole::kFfnUp:
      return {spec.d_ff, d};
    case TensorRole::kFfnDown:
      return {d, spec.d_ff};
    default:
      return {d};  // norms
  }
}

// Finds the factors of a matrix of 8-bit floats. Returns false if that added a fault.
bool LayoutBuilder::FindScales(const std::string& name, HfTensor& tensor) {
  const StoredTensor& stored = tensor.stored;
  if (!config_.float8) {
    faults_.Add(UnsupportedError("hf.dtype", "8-bit floats without a word on their scales")
                    .File(stored.file->name())
                    .Where("tensor " + Quoted(stored.info().name))
                    .Found(stored.info().dtype_name)
                    .Expected("\"quantization_config\" in config.json")
                    .Hint("convert the bf16 release of the same model"));
    return false;
  }
  const StoredTensor* scales = Use(name + "_scale_inv");
  if (scales == nullptr) scales = Use(name + "_scale");
  if (scales == nullptr) {
    missing_.push_back(name + "_scale");
    return false;
  }
  const WeightTensor& weight = stored.info();
  const WeightTensor& info = scales->info();
  const bool is_float = info.dtype && IsFloat(*info.dtype);
  const auto blocks = [](uint64_t n, uint64_t size) { return n / size + (n % size != 0); };
  uint64_t n_elems = 1;
  for (const uint64_t dim : info.shape) n_elems = CheckedMul(n_elems, dim).value_or(UINT64_MAX);
  bool fits = false;
  if (config_.float8->block_rows) {
    tensor.scale_rows = *config_.float8->block_rows;
    tensor.scale_cols = *config_.float8->block_cols;
    fits = info.shape == std::vector{blocks(weight.rows(), tensor.scale_rows),
                                     blocks(weight.cols(), tensor.scale_cols)};
  } else if (n_elems == 1) {
    tensor.scale_rows = weight.rows();
    tensor.scale_cols = weight.cols();
    fits = info.shape.size() <= 2;
  } else {
    tensor.scale_cols = weight.cols();
    fits = info.shape == std::vector<uint64_t>{weight.rows(), 1} ||
           info.shape == std::vector<uint64_t>{weight.rows()};
  }
  if (!is_float || !fits) {
    faults_.Add(Bad("hf.scales", "scales do not fit their weight", *scales)
                    .Expected("floats, one for all of " + weight.ShapeText() +
                              ", one a row, or one a block of weight_block_size"));
    return false;
  }
  tensor.scales = *scales;
  return true;
}

void LayoutBuilder::Collect(const HfTensorKind& kind, std::optional<uint32_t> layer) {
  const std::string name = HfTensorName(kind, layer.value_or(0));
  const StoredTensor* stored = Use(name);
  if (stored == nullptr) {
    missing_.push_back(name);
    return;
  }
  const WeightTensor& info = stored->info();
  const std::vector<uint64_t> expected = ExpectedShape(kind.role);
  if (info.shape != expected) {
    std::string dims;
    for (const uint64_t dim : expected) dims += (dims.empty() ? "[" : ", ") + std::to_string(dim);
    faults_.Add(Bad("hf.tensor-shape", "tensor has the wrong shape", *stored)
                    .Expected(dims + "] by config.json")
                    .Hint("take config.json from the same release as the weights"));
    return;
  }
  HfTensor tensor{.stored = *stored, .scales = std::nullopt};
  if (kind.rows_are_halves) tensor.head_rows = config_.head_dim;
  DType dtype = DType::kF32;
  if (info.float8 && expected.size() == 2) {
    if (!FindScales(name, tensor)) return;
  } else if (info.dtype && IsFloat(*info.dtype)) {
    dtype = *info.dtype;
  } else {
    faults_.Add(UnsupportedError("hf.dtype", "weights of this type are not read")
                    .File(stored->file->name())
                    .Where("tensor " + Quoted(name))
                    .Found(info.dtype_name)
                    .Expected("float32, float16 or bfloat16")
                    .Hint("convert the unquantized release of the same model"));
    return;
  }
  layout_.tensors.push_back(
      {TensorName(kind.role, layer), kind.role, layer, dtype, Shape::Make(expected).value()});
  layout_.sources.push_back(tensor);
}

void LayoutBuilder::CollectTensors() {
  const auto add_globals = [&](auto wanted) {
    for (const HfTensorKind& kind : AllHfTensors()) {
      if (kind.per_layer || !wanted(kind.role)) continue;
      if (kind.role == TensorRole::kOutput && config_.tied_embeddings) {
        Use(std::string(kind.name));  // transformers puts the embedding in its place
        continue;
      }
      Collect(kind, std::nullopt);
    }
  };
  add_globals([](TensorRole role) { return role == TensorRole::kTokenEmbedding; });
  // Where thousands are missing, the rest of the layers is not there either.
  constexpr size_t kMaxMissing = 4096;
  for (uint32_t layer = 0; layer < config_.n_layers && missing_.size() < kMaxMissing; ++layer) {
    for (const HfTensorKind& kind : AllHfTensors()) {
      if (kind.per_layer) Collect(kind, layer);
    }
  }
  add_globals([](TensorRole role) { return role != TensorRole::kTokenEmbedding; });
  ReportMissing();
}

// One error that names every missing tensor; layers of which nothing is there as
// "model.layers.N.*".
void LayoutBuilder::ReportMissing() {
  if (missing_.empty()) return;
  constexpr std::string_view kLayers = "model.layers.";
  constexpr size_t kPerLayer = 9;
  std::vector<std::string> names;
  for (size_t i = 0; i < missing_.size();) {
    const size_t dot =
        missing_[i].starts_with(kLayers) ? missing_[i].find('.', kLayers.size()) + 1 : 0;
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
  const bool output_only = missing_.size() == 1 && missing_[0] == "lm_head.weight";
  faults_.Add(DataError("hf.tensor-missing", "tensors are missing")
                  .File(folder_.path)
                  .Found(std::to_string(places_.size()) + " tensors")
                  .Expected("also " + JoinNames(names))
                  .Hint(output_only ? "a model whose output is its embedding has "
                                      "\"tie_word_embeddings\": true in config.json"
                                    : "check num_hidden_layers in config.json, or download the "
                                      "folder again"));
}

void LayoutBuilder::CheckLeftovers(bool ignore_unknown_tensors) {
  std::vector<std::string> unknown;
  for (const auto& [name, place] : places_) {
    const std::string& stored = place.stored.info().name;
    if (place.used || IsIgnoredHfTensor(stored)) continue;
    const std::string_view kind = UnsupportedHfTensor(stored);
    if (!kind.empty() && !ignore_unknown_tensors) {
      faults_.Add(UnsupportedError("hf.feature", "this is " + std::string(kind))
                      .File(place.stored.file->name())
                      .Where("tensor " + Quoted(stored))
                      .Expected("a plain Llama"));
      return;
    }
    unknown.push_back(stored);
  }
  if (unknown.empty()) return;
  Error error = DataError("hf.unknown-tensor", "tensors that a Llama does not have")
                    .File(folder_.path)
                    .Found(JoinNames(unknown))
                    .Expected("the tensors of " + std::to_string(config_.n_layers) +
                              " layers (num_hidden_layers in config.json)");
  if (ignore_unknown_tensors) {
    faults_.Warn(error);
  } else {
    faults_.Add(error.Hint("check that config.json is of this checkpoint"));
  }
}

// Copies rows [begin, begin + count) of a tensor whose heads are stored as two halves: row 2i of a
// head is stored as its row i, row 2i + 1 as its row head_rows / 2 + i. Source: permute() of
// transformers' convert_llama_weights_to_hf.py, undone.
void ReadPairedRows(const HfTensor& tensor, uint64_t begin, uint64_t count, MutableByteView out) {
  const uint64_t row_bytes = tensor.stored.info().row_bytes();
  const uint64_t head_rows = tensor.head_rows, half = head_rows / 2;
  std::vector<uint8_t> scratch;
  while (count > 0) {
    const uint64_t head = begin / head_rows;
    const uint64_t first = begin % head_rows;
    const uint64_t n = std::min(count, head_rows - first);
    // Rows 2i that lie in the range, and rows 2i + 1.
    const uint64_t even = (first + 1) / 2, n_even = (first + n + 1) / 2 - even;
    const uint64_t odd = first / 2, n_odd = n - n_even;
    scratch.resize(n * row_bytes);
    const MutableByteView evens = MutableByteView(scratch).first(n_even * row_bytes);
    const MutableByteView odds = MutableByteView(scratch).subspan(n_even * row_bytes);
    const auto& [file, index] = tensor.stored;
    if (n == head_rows) {
      file->ReadRows(index, head * head_rows, n, scratch);  // the halves are neighbours
    } else {
      if (n_even > 0) file->ReadRows(index, head * head_rows + even, n_even, evens);
      if (n_odd > 0) file->ReadRows(index, head * head_rows + half + odd, n_odd, odds);
    }
    for (uint64_t i = 0; i < n; ++i) {
      const uint64_t row = first + i;
      const uint8_t* from =
          row % 2 == 0 ? &evens[(row / 2 - even) * row_bytes] : &odds[(row / 2 - odd) * row_bytes];
      std::memcpy(&out[i * row_bytes], from, row_bytes);
    }
    begin += n;
    count -= n;
    out = out.subspan(n * row_bytes);
  }
}

// Copies rows in the type in which they are stored.
void ReadStoredRows(const HfTensor& tensor, uint64_t begin, uint64_t count, MutableByteView out) {
  if (tensor.head_rows == 0) {
    tensor.stored.file->ReadRows(tensor.stored.index, begin, count, out);
  } else {
    ReadPairedRows(tensor, begin, count, out);
  }
}

float LoadFloat(DType dtype, const uint8_t* p) {
  switch (dtype) {
    case DType::kF16:
      return F16ToF32(LoadLE<uint16_t>(p));
    case DType::kBF16:
      return BF16ToF32(LoadLE<uint16_t>(p));
    default:
      return LoadLE<float>(p);
  }
}

// Returns one row of the factors; a vector is one row.
std::vector<float> ReadScaleRow(const StoredTensor& scales, uint64_t row) {
  const WeightTensor& info = scales.info();
  std::vector<uint8_t> bytes(info.row_bytes());
  scales.file->ReadRows(scales.index, row, 1, bytes);
  std::vector<float> values;
  for (size_t at = 0; at < bytes.size(); at += info.elem_bytes) {
    values.push_back(LoadFloat(*info.dtype, &bytes[at]));
  }
  return values;
}

void ReadFloat8Rows(const HfTensor& tensor, uint64_t begin, uint64_t count, MutableByteView out) {
  const WeightTensor& info = tensor.stored.info();
  std::vector<uint8_t> codes(count * info.cols());
  ReadStoredRows(tensor, begin, count, codes);
  // A vector has one factor for each row; a matrix one row of factors for each run of rows.
  const bool is_vector = tensor.scales->info().shape.size() < 2;
  std::vector<float> scales;
  uint64_t scale_row = UINT64_MAX;
  size_t at = 0;
  for (uint64_t row = begin; row < begin + count; ++row) {
    const uint64_t run = tensor.StoredRow(row) / tensor.scale_rows;
    const uint64_t wanted = is_vector ? 0 : run;
    if (wanted != scale_row) scales = ReadScaleRow(*tensor.scales, wanted);
    scale_row = wanted;
    for (uint64_t col = 0; col < info.cols(); ++col, ++at) {
      const float value =
          *info.float8 == Float8::kE4M3 ? E4M3ToF32(codes[at]) : E5M2ToF32(codes[at]);
      StoreLE(&out[4 * at], value * scales[is_vector ? run : col / tensor.scale_cols]);
    }
  }
}

}  // namespace

uint64_t HfTensor::StoredRow(uint64_t row) const {
  if (head_rows == 0) return row;
  const uint64_t in_head = row % head_rows;
  return row - in_head + in_head % 2 * (head_rows / 2) + in_head / 2;
}

HfLayout PlanHfLayout(const HfConfig& config, const HfFolder& folder,
                      std::span<const std::unique_ptr<WeightFile>> files,
                      bool ignore_unknown_tensors, Faults& faults) {
  LayoutBuilder builder(config, folder, files, faults);
  builder.CollectNames();
  builder.CheckIndex();
  builder.FillSpec();
  builder.CollectTensors();
  builder.CheckLeftovers(ignore_unknown_tensors);
  return builder.Take();
}

void ReadHfRows(const HfTensor& tensor, uint64_t begin, uint64_t count, MutableByteView out) {
  if (tensor.scales) {
    ReadFloat8Rows(tensor, begin, count, out);
  } else {
    ReadStoredRows(tensor, begin, count, out);
  }
}

StoredPlace PlaceOfHf(const HfTensor& tensor, uint64_t row, uint64_t col) {
  const auto& [file, index] = tensor.stored;
  return {file->name(), file->ByteOffsetOf(index, tensor.StoredRow(row), col)};
}

}  // namespace quern
