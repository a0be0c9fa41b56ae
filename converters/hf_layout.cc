#include "converters/hf_layout.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "converters/float8.h"
#include "converters/hf_names.h"
#include "converters/paths.h"
#include "formats/core/check.h"
#include "formats/core/checked.h"
#include "formats/core/half.h"
#include "formats/core/name_list.h"
#include "formats/gguf_metadata.h"
#include "formats/model_tensors.h"
#include "formats/text_index.h"

namespace quern {
namespace {

// Some tools strip the "model." of the names; both spellings are one name.
std::string_view BareName(std::string_view name) {
  constexpr std::string_view kPrefix = "model.";
  return name.starts_with(kPrefix) ? name.substr(kPrefix.size()) : name;
}

// Every tensor of all files, found by its bare name.
class TensorTable {
 public:
  explicit TensorTable(std::span<const std::unique_ptr<WeightFile>> files) {
    size_t n = 0;
    for (const auto& file : files) n += file->tensors().size();
    places_.reserve(n);
    for (const auto& file : files) {
      for (size_t i = 0; i < file->tensors().size(); ++i) places_.push_back({{file.get(), i}});
    }
    index_.emplace(*this);
  }
  TensorTable(const TensorTable&) = delete;  // index_ refers to it
  TensorTable& operator=(const TensorTable&) = delete;

  struct Place {
    StoredTensor stored;
    bool used = false;
  };
  std::span<Place> places() { return places_; }
  Place* Find(std::string_view name) {
    const auto i = index_->Find(BareName(name));
    return i ? &places_[*i] : nullptr;
  }

  // The list of bare names, for the index.
  size_t size() const { return places_.size(); }
  std::string_view operator[](size_t i) const { return BareName(places_[i].stored.info().name); }

 private:
  std::vector<Place> places_;
  std::optional<TextIndex<TensorTable>> index_;
};

// Builds the layout step by step; each step adds to faults_ and later ones rely on the earlier.
class LayoutBuilder {
 public:
  LayoutBuilder(const HfConfig& config, const HfFolder& folder,
                std::span<const std::unique_ptr<WeightFile>> files, bool is_complete, Faults& faults)
      : config_(config), folder_(folder), is_complete_(is_complete), faults_(faults),
        table_(files) {}

  bool RefuseForeign();
  void CheckDuplicates();
  void CheckIndex();
  void FillSpec();
  void CollectTensors();
  void CheckLeftovers();
  HfLayout Take() { return std::move(layout_); }

 private:
  // Returns the tensor and marks it as used, or null.
  const StoredTensor* Use(std::string_view name);
  void Collect(const HfTensorKind& kind, std::optional<uint32_t> layer);
  bool FindScales(const std::string& name, HfTensor& tensor);
  void ReportMissing();
  Error Bad(std::string_view id, std::string_view what, const StoredTensor& stored) const {
    return DataError(id, what)
        .File(stored.file->name())
        .Tensor(stored.info().name)
        .Found(std::string(stored.info().dtype_name) + " " + ShapeText(stored.info().shape));
  }

  const HfConfig& config_;
  const HfFolder& folder_;
  bool is_complete_;
  Faults& faults_;
  TensorTable table_;
  std::vector<std::string> missing_;
  HfLayout layout_;
};

// Returns true, and says so, where a tensor's name shows that the checkpoint is of another kind: then
// everything else that does not fit follows from that.
bool LayoutBuilder::RefuseForeign() {
  for (const TensorTable::Place& place : table_.places()) {
    const std::string_view name = place.stored.info().name;
    const std::string_view kind = IsIgnoredHfTensor(name) ? "" : UnsupportedHfTensor(name);
    if (kind.empty()) continue;
    faults_.Add(UnsupportedError("hf.feature", "this is " + std::string(kind))
                    .File(place.stored.file->name())
                    .Tensor(name)
                    .Expected("a plain Llama"));
    return true;
  }
  return false;
}

void LayoutBuilder::CheckDuplicates() {
  for (TensorTable::Place& place : table_.places()) {
    const std::string_view name = place.stored.info().name;
    const StoredTensor& first = table_.Find(name)->stored;
    const StoredTensor& stored = place.stored;
    if (first.file == stored.file && first.index == stored.index) continue;
    place.used = true;  // the first one counts; this one was named
    if (IsIgnoredHfTensor(name)) continue;
    if (first.file == stored.file) {
      faults_.Add(DataError("hf.duplicate-tensor", "a tensor is there under two names")
                      .File(stored.file->name())
                      .Tensor(name)
                      .Found("also as " + Quoted(first.info().name))
                      .Expected("each tensor once"));
      continue;
    }
    faults_.Add(DataError("hf.duplicate-tensor", "a tensor is in two files")
                    .File(stored.file->name())
                    .Tensor(name)
                    .Found("also in " + first.file->name())
                    .Expected("each tensor once")
                    .Hint("a shard of another download is among them; fetch the folder again"));
  }
}

// Compares the index with what the shards hold.
void LayoutBuilder::CheckIndex() {
  const WeightMap& map = folder_.weight_map;
  if (map.tensors.empty()) return;  // there is no index, or none that can be read
  NameList misplaced;
  std::string found;
  for (size_t i = 0; i < map.tensors.size(); ++i) {
    const std::string& shard = map.shards[map.shard_of[i]];
    const TensorTable::Place* place = table_.Find(map.tensors[i]);
    if (place != nullptr && BaseName(place->stored.file->name()) == shard) continue;
    // In a shard that is missing or damaged there is nothing to be found.
    if (IsIgnoredHfTensor(map.tensors[i]) || (place == nullptr && !is_complete_)) continue;
    if (misplaced.empty()) {
      found = place == nullptr
                  ? "no " + Quoted(map.tensors[i]) + " in " + Quoted(shard)
                  : "it in " + Quoted(BaseName(place->stored.file->name())) + ", not " + Quoted(shard);
    }
    misplaced.Add(map.tensors[i]);
  }
  if (!misplaced.empty()) {
    faults_.Add(DataError("index.tensor-missing", "the index names a tensor that its shard lacks")
                    .File(*folder_.index)
                    .Where((misplaced.size() == 1 ? "tensor " : "tensors ") + misplaced.ToString())
                    .Found(found)
                    .Expected("each tensor in the shard that the index says")
                    .Hint("index and shards are of different downloads; fetch the folder again"));
  }
  const TextIndex named(map.tensors);
  NameList unlisted;
  for (const TensorTable::Place& place : table_.places()) {
    const std::string_view name = place.stored.info().name;
    if (!named.Has(name) && !IsIgnoredHfTensor(name)) unlisted.Add(name);
  }
  if (unlisted.empty()) return;
  faults_.Warn(
      DataError("index.tensor-unlisted", "shards hold tensors that the index does not name")
          .File(*folder_.index)
          .Found(unlisted.ToString()));
}

const StoredTensor* LayoutBuilder::Use(std::string_view name) {
  TensorTable::Place* place = table_.Find(name);
  if (place == nullptr) return nullptr;
  place->used = true;
  return &place->stored;
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
  const TensorTable::Place* embedding = table_.Find("model.embed_tokens.weight");
  if (embedding == nullptr) return;  // reported as missing
  const WeightTensor& info = embedding->stored.info();
  constexpr uint64_t kMaxRows = 1u << 22;
  if (info.shape.size() != 2 || info.rows() > kMaxRows) return;
  layout_.has_embedding = true;
  if (info.rows() == spec.vocab_size) return;
  faults_.Warn(
      Bad("hf.config-differs", "vocabulary size", embedding->stored)
          .Expected(std::to_string(spec.vocab_size) + " rows by config.json; the tensor decides"));
  spec.vocab_size = static_cast<uint32_t>(info.rows());
}

// Finds the factors of a matrix of 8-bit floats. Returns false if that added a fault.
bool LayoutBuilder::FindScales(const std::string& name, HfTensor& tensor) {
  const StoredTensor& stored = tensor.stored;
  if (!config_.float8) {
    faults_.Add(UnsupportedError("hf.dtype", "8-bit floats without a word on their scales")
                    .File(stored.file->name())
                    .Tensor(stored.info().name)
                    .Found(std::string(stored.info().dtype_name))
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
    fits = info.HasShape(std::array{blocks(weight.rows(), tensor.scale_rows),
                                    blocks(weight.cols(), tensor.scale_cols)});
  } else if (n_elems == 1) {
    tensor.scale_rows = weight.rows();
    tensor.scale_cols = weight.cols();
    fits = info.shape.size() <= 2;
  } else {
    tensor.scale_cols = weight.cols();
    fits = info.HasShape(std::array{weight.rows(), uint64_t{1}}) ||
           info.HasShape(std::array{weight.rows()});
  }
  if (!is_float || !fits) {
    faults_.Add(Bad("hf.scales", "scales do not fit their weight", *scales)
                    .Expected("floats, one for all of " + ShapeText(weight.shape) +
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
  const Shape expected = ShapeOfRole(layout_.spec, kind.role);
  if (Shape::Make(info.shape) != expected) {
    faults_.Add(Bad("hf.tensor-shape", "tensor has the wrong shape", *stored)
                    .Expected(expected.ToString() + " by config.json")
                    .Hint("take config.json from the same release as the weights"));
    return;
  }
  HfTensor tensor{.stored = *stored, .scales = std::nullopt};
  if (kind.rows_are_halves) tensor.head_rows = config_.head_dim;
  DType dtype = DType::kF32;
  if (info.float8 && expected.rank() == 2) {
    if (!FindScales(name, tensor)) return;
  } else if (info.dtype && IsFloat(*info.dtype)) {
    dtype = *info.dtype;
  } else {
    faults_.Add(UnsupportedError("hf.dtype", "weights of this type are not read")
                    .File(stored->file->name())
                    .Tensor(name)
                    .Found(std::string(info.dtype_name))
                    .Expected("float32, float16 or bfloat16")
                    .Hint("convert the unquantized release of the same model"));
    return;
  }
  layout_.tensors.push_back(
      {TensorName(kind.role, layer), kind.role, layer, dtype, expected});
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

// One error that names every missing tensor.
void LayoutBuilder::ReportMissing() {
  // Where a file is missing, so are its tensors.
  if (missing_.empty() || !is_complete_) return;
  constexpr size_t kPerLayer = 9;
  const bool output_only = missing_.size() == 1 && missing_[0] == "lm_head.weight";
  faults_.Add(DataError("hf.tensor-missing", "tensors are missing")
                  .File(folder_.path)
                  .Found(std::to_string(table_.size()) + " tensors")
                  .Expected("also " + MissingTensors(missing_, "model.layers.", kPerLayer).ToString())
                  .Hint(output_only ? "a model whose output is its embedding has "
                                      "\"tie_word_embeddings\": true in config.json"
                                    : "check num_hidden_layers in config.json, or download the "
                                      "folder again"));
}

void LayoutBuilder::CheckLeftovers() {
  NameList unknown;
  for (const TensorTable::Place& place : table_.places()) {
    const std::string_view name = place.stored.info().name;
    if (!place.used && !IsIgnoredHfTensor(name)) unknown.Add(name);
  }
  if (unknown.empty()) return;
  faults_.Add(DataError("hf.unknown-tensor", "tensors that a Llama does not have")
                  .File(folder_.path)
                  .Found(unknown.ToString())
                  .Expected("the tensors of " + std::to_string(config_.n_layers) +
                            " layers (num_hidden_layers in config.json)")
                  .Hint("check that config.json is of this checkpoint"));
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

// Returns rows of the factors as f32; a vector is one row. Shape: [count, cols].
std::vector<float> ReadScales(const StoredTensor& scales, uint64_t begin, uint64_t count) {
  const WeightTensor& info = scales.info();
  std::vector<uint8_t> bytes(count * info.row_bytes());
  scales.file->ReadRows(scales.index, begin, count, bytes);
  std::vector<float> values;
  values.reserve(count * info.cols());
  for (size_t at = 0; at < bytes.size(); at += info.elem_bytes) {
    values.push_back(LoadFloat(*info.dtype, &bytes[at]));
  }
  return values;
}

// The values of all 256 codes.
std::array<float, 256> Float8Values(Float8 type) {
  std::array<float, 256> values;
  for (size_t code = 0; code < values.size(); ++code) {
    const auto byte = static_cast<uint8_t>(code);
    values[code] = type == Float8::kE4M3 ? E4M3ToF32(byte) : E5M2ToF32(byte);
  }
  return values;
}

void ReadFloat8Rows(const HfTensor& tensor, uint64_t begin, uint64_t count, MutableByteView out) {
  static const std::array<std::array<float, 256>, 2> kValues = {Float8Values(Float8::kE4M3),
                                                                Float8Values(Float8::kE5M2)};
  if (count == 0) return;
  const WeightTensor& info = tensor.stored.info();
  const std::array<float, 256>& values = kValues[static_cast<size_t>(*info.float8)];
  std::vector<uint8_t> codes(count * info.cols());  // [count, cols]
  ReadStoredRows(tensor, begin, count, codes);
  // A vector has one factor for each row; a matrix one row of factors for each run of rows. The rows
  // of whole heads are neighbours in the file, in whichever order they come here.
  const bool is_vector = tensor.scales->info().shape.size() < 2;
  const uint64_t unit = std::max<uint32_t>(tensor.head_rows, 1);
  const uint64_t first_row = begin / unit * unit;
  const uint64_t last_row = std::min(info.rows(), (begin + count + unit - 1) / unit * unit) - 1;
  const uint64_t first_run = is_vector ? 0 : first_row / tensor.scale_rows;
  const uint64_t n_runs = is_vector ? 1 : last_row / tensor.scale_rows - first_run + 1;
  const uint64_t n_scale_cols = tensor.scales->info().cols();
  const std::vector<float> scales = ReadScales(*tensor.scales, first_run, n_runs);
  const uint8_t* code = codes.data();
  uint8_t* to = out.data();
  for (uint64_t row = begin; row < begin + count; ++row) {
    const uint64_t run = tensor.StoredRow(row) / tensor.scale_rows;
    const float* scale = is_vector ? &scales[run] : &scales[(run - first_run) * n_scale_cols];
    for (uint64_t col = 0; col < info.cols(); ++scale) {
      const uint64_t end = std::min(info.cols(), col + tensor.scale_cols);
      const float factor = *scale;
      for (; col < end; ++col, ++code, to += sizeof(float)) {
        StoreLE(to, values[*code] * factor);
      }
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
                      std::span<const std::unique_ptr<WeightFile>> files, bool is_complete,
                      Faults& faults) {
  LayoutBuilder builder(config, folder, files, is_complete, faults);
  if (builder.RefuseForeign()) return builder.Take();
  builder.CheckDuplicates();
  builder.CheckIndex();
  builder.FillSpec();
  builder.CollectTensors();
  builder.CheckLeftovers();
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
