#include "verify/arch_llama.h"

#include <fmt/format.h>
#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "formats/core/error.h"
#include "formats/gguf_metadata.h"
#include "verify/attention.h"
#include "verify/linear.h"
#include "verify/ops.h"

namespace quern {
namespace {

// Calls body(row) for every row, a fixed number of rows per task.
void ForEachRow(uint64_t n_rows, const std::function<void(uint64_t)>& body) {
  constexpr uint64_t kRowsPerTask = 64;
  tbb::parallel_for(
      tbb::blocked_range<uint64_t>(0, n_rows, kRowsPerTask),
      [&](const tbb::blocked_range<uint64_t>& range) {
        for (uint64_t row = range.begin(); row < range.end(); ++row) body(row);
      },
      tbb::simple_partitioner());
}

// The tensors of one layer.
struct Layer {
  std::vector<float> attn_norm;   // [d_model]
  StoredMatrix q, k, v;           // [heads * head_dim, d_model]
  StoredMatrix attn_output;       // [d_model, n_heads * head_dim]
  std::vector<float> ffn_norm;    // [d_model]
  StoredMatrix ffn_gate, ffn_up;  // [d_ff, d_model]
  StoredMatrix ffn_down;          // [d_model, d_ff]
};

// Finds tensors by role and checks what they are.
class TensorFinder {
 public:
  explicit TensorFinder(const TensorStore& store) : store_(store) {
    const std::vector<TensorInfo>& tensors = store.manifest().tensors;
    for (size_t i = 0; i < tensors.size(); ++i) {
      places_.emplace(Key{tensors[i].role, tensors[i].layer}, i);
    }
  }

  bool Has(TensorRole role) const { return places_.contains({role, std::nullopt}); }

  StoredMatrix Matrix(TensorRole role, std::optional<uint32_t> layer, uint64_t rows,
                      uint64_t cols) const {
    return Find(role, layer, {rows, cols});
  }
  StoredMatrix Vector(TensorRole role, std::optional<uint32_t> layer, uint64_t size) const {
    return Find(role, layer, {size});
  }

 private:
  using Key = std::pair<TensorRole, std::optional<uint32_t>>;

  StoredMatrix Find(TensorRole role, std::optional<uint32_t> layer,
                    std::initializer_list<uint64_t> dims) const {
    const Shape expected = Shape::Make(dims).value_or(Shape());
    const auto place = places_.find({role, layer});
    if (place == places_.end()) {
      throw DataError("arch.missing-tensor", "the model lacks a tensor")
          .File(store_.name())
          .Tensor(TensorName(role, layer))
          .Found("no such tensor")
          .Expected("shape " + expected.ToString());
    }
    const TensorInfo& tensor = store_.manifest().tensors[place->second];
    if (tensor.shape != expected) {
      throw DataError("arch.shape", "a tensor's shape contradicts the model's dimensions")
          .File(store_.name())
          .Tensor(tensor.name)
          .Found(tensor.shape.ToString())
          .Expected(expected.ToString());
    }
    const BlockCodec* codec = FindCodec(tensor.dtype);
    if (codec == nullptr) {
      throw UnsupportedError("arch.dtype", "quern cannot decode this tensor's type")
          .File(store_.name())
          .Tensor(tensor.name)
          .Found(NameOf(tensor.dtype));
    }
    return {place->second, tensor.rows(), tensor.cols(), tensor.row_bytes(), codec};
  }

  const TensorStore& store_;
  std::map<Key, size_t> places_;
};

void CheckSpec(const ModelSpec& spec, const std::string& file) {
  const auto require = [&](bool good, std::string_view what, uint64_t found,
                           std::string_view expected) {
    if (good) return;
    throw DataError("arch.spec", std::string("impossible ") + std::string(what))
        .File(file)
        .Found(std::to_string(found))
        .Expected(expected);
  };
  require(spec.n_layers > 0, "number of layers", spec.n_layers, "at least 1");
  require(spec.d_model > 0, "model width", spec.d_model, "at least 1");
  require(spec.d_ff > 0, "feed-forward width", spec.d_ff, "at least 1");
  require(spec.vocab_size > 0, "vocabulary size", spec.vocab_size, "at least 1");
  require(spec.n_kv_heads > 0, "number of key heads", spec.n_kv_heads, "at least 1");
  require(spec.n_heads > 0 && spec.n_heads % spec.n_kv_heads == 0, "number of heads", spec.n_heads,
          "a multiple of the key heads (" + std::to_string(spec.n_kv_heads) + ")");
  require(spec.head_dim > 0 && spec.head_dim % 2 == 0, "head size", spec.head_dim,
          "an even number");
  const auto require_number = [&](bool good, std::string_view what, float found) {
    if (good) return;
    throw DataError("arch.spec", std::string("impossible ") + std::string(what))
        .File(file)
        .Found(fmt::format("{:.6g}", found))
        .Expected("a positive number");
  };
  require_number(spec.norm_eps >= 0 && std::isfinite(spec.norm_eps), "norm epsilon", spec.norm_eps);
  require_number(spec.rope_theta > 0 && std::isfinite(spec.rope_theta), "rotary base",
                 spec.rope_theta);
  const float factor = spec.rope_linear_factor.value_or(1.0f);
  require_number(factor > 0 && std::isfinite(factor), "rotary scaling factor", factor);
}

// Throws for a tensor that the graph has no place for: a bias, a gate, a norm of another kind, a layer
// behind the last one. What is computed without it is another model. llama.cpp refuses them too.
void RefuseUnknownTensors(const TensorStore& store, uint32_t n_layers) {
  for (const TensorInfo& tensor : store.manifest().tensors) {
    if (tensor.role != TensorRole::kOther && tensor.layer.value_or(0) < n_layers) continue;
    throw UnsupportedError("arch.unknown-tensor", "the model has a tensor that no Llama has")
        .File(store.name())
        .Tensor(tensor.name)
        .Found(std::string(NameOf(tensor.dtype)) + " " + tensor.shape.ToString())
        .Expected("the tensors of " + std::to_string(n_layers) + " layers, without biases")
        .Hint("run it with the program that it was made for");
  }
}

class Llama final : public LanguageModel {
 public:
  Llama(const TensorStore& store, const ForwardOptions& options)
      : file_(store.name()),
        spec_(RequireSpec(store.manifest(), file_)),
        linear_(store, ChooseProduct(options), options.workspaces) {
    CheckSpec(spec_, file_);
    RefuseUnknownTensors(store, spec_.n_layers);
    const TensorFinder find(store);
    const uint64_t d = spec_.d_model;
    const uint64_t q_dim = QueryDim();
    const uint64_t kv_dim = KeyDim();
    embedding_ = find.Matrix(TensorRole::kTokenEmbedding, {}, spec_.vocab_size, d);
    // Grown one by one: the number of layers is only believed as far as there are tensors.
    for (uint32_t i = 0; i < spec_.n_layers; ++i) {
      Layer layer;
      layer.attn_norm = linear_.DecodeVector(find.Vector(TensorRole::kAttnNorm, i, d));
      layer.q = find.Matrix(TensorRole::kAttnQ, i, q_dim, d);
      layer.k = find.Matrix(TensorRole::kAttnK, i, kv_dim, d);
      layer.v = find.Matrix(TensorRole::kAttnV, i, kv_dim, d);
      layer.attn_output = find.Matrix(TensorRole::kAttnOutput, i, d, q_dim);
      layer.ffn_norm = linear_.DecodeVector(find.Vector(TensorRole::kFfnNorm, i, d));
      layer.ffn_gate = find.Matrix(TensorRole::kFfnGate, i, spec_.d_ff, d);
      layer.ffn_up = find.Matrix(TensorRole::kFfnUp, i, spec_.d_ff, d);
      layer.ffn_down = find.Matrix(TensorRole::kFfnDown, i, d, spec_.d_ff);
      layers_.push_back(std::move(layer));
    }
    output_norm_ = linear_.DecodeVector(find.Vector(TensorRole::kOutputNorm, {}, d));
    output_ = spec_.tied_embeddings ? embedding_
                                    : find.Matrix(TensorRole::kOutput, {}, spec_.vocab_size, d);
    ReadRotaryDivisors(find);
  }

  const ModelSpec& spec() const override { return spec_; }

  uint64_t ActivationBytes(uint64_t n_windows, uint64_t context, uint64_t part_rows,
                           RowPlace place) const override {
    const uint64_t part = PartRows(context, part_rows);
    const uint64_t n_rows = n_windows * part;
    const uint64_t d = spec_.d_model, kv_dim = KeyDim();
    uint64_t n_elems = n_rows * HiddenDim() + InnerElems(n_rows, part == context);
    if (place == RowPlace::kMemory) {
      n_elems += n_windows * context * d;
      if (part != context) n_elems += context * 2 * kv_dim;
    } else {
      n_elems += part * (d + 2 * kv_dim) + std::min(context, kKeyBlock) * 2 * kv_dim;
    }
    return n_elems * sizeof(float) + RotaryTable::Bytes(part, spec_.head_dim) +
           n_rows * (Attention::QueryBytes(spec_.n_heads) +
                     linear_.InputBytes(std::max<uint64_t>(HiddenDim(), spec_.d_ff)));
  }

  uint64_t WorkspaceBytes(uint64_t context) const override {
    const uint64_t max_cols = std::max<uint64_t>(std::max(spec_.d_model, spec_.d_ff), QueryDim());
    return Linear::WorkspaceBytes(max_cols) + Attention::WorkspaceBytes(context, spec_.head_dim);
  }

  void Embed(const WindowBatch& batch, RowStore& x) const override;
  void RunLayers(const WindowBatch& batch, uint32_t begin, uint32_t end,
                 RowStore& x) const override;
  void Finish(const WindowBatch& batch, RowStore& x) const override;

  void Logits(std::span<const float> hidden, uint64_t begin, uint64_t count,
              std::span<float> logits) const override {
    const uint64_t n_rows = hidden.size() / spec_.d_model;
    linear_.MultiplyRows(output_, begin, count, {hidden.data(), n_rows, spec_.d_model},
                         logits.data());
  }

 private:
  // Rows of each window that are computed: positions [begin, begin + count).
  struct Rows {
    uint64_t n_windows, begin, count;
    uint64_t total() const { return n_windows * count; }
  };

  uint64_t QueryDim() const { return uint64_t{spec_.n_heads} * spec_.head_dim; }
  uint64_t KeyDim() const { return uint64_t{spec_.n_kv_heads} * spec_.head_dim; }
  // Width of normed rows and of attention's result.
  uint64_t HiddenDim() const { return std::max<uint64_t>(spec_.d_model, QueryDim()); }
  // Rows of a window that go through a layer together.
  static uint64_t PartRows(uint64_t context, uint64_t part_rows) {
    return part_rows == 0 ? context : std::min(part_rows, context);
  }
  // Floats for q and the feed-forward's inside, which is needed once attention is done; and for
  // keys and values where they make room for it too: where no later part of the window looks at
  // them.
  uint64_t InnerElems(uint64_t n_rows, bool whole_windows) const {
    return n_rows * std::max<uint64_t>(QueryDim() + (whole_windows ? 2 * KeyDim() : 0), spec_.d_ff);
  }
  // What a layer works with beside the residual stream.
  struct Scratch {
    float *normed, *q, *ffn;
    RowStore *k, *v;                                       // [n_windows * context, kv_dim]
    std::vector<float> k_rows, v_rows;                     // of a part or a block of keys
    const std::function<void(const MatrixInput&)>* input;  // WindowBatch::input
    // Tells whoever listens what `matrices` are multiplied with.
    void Show(std::initializer_list<StoredMatrix> matrices, const float* x, uint64_t rows) const {
      if (!*input) return;
      for (const StoredMatrix& m : matrices) (*input)({m.tensor, x, rows, m.cols});
    }
  };

  void ReadRotaryDivisors(const TensorFinder& find);
  RotaryTable RotaryOf(uint64_t begin, uint64_t count) const {
    return RotaryTable(begin, count, spec_.head_dim, double{spec_.rope_theta},
                       double{spec_.rope_linear_factor.value_or(1.0f)}, rotary_divisors_);
  }
  void KeysAndValues(const Layer& layer, const RotaryTable& rotary, Rows rows, const float* x,
                     Scratch& scratch) const;
  void AttendAndFeed(const Layer& layer, const RotaryTable& rotary, uint64_t context, Rows rows,
                     float* x, Scratch& scratch) const;
  void Attend(uint64_t context, Rows rows, Scratch& scratch, float* out) const;
  void Norm(const float* x, const std::vector<float>& weight, uint64_t n_rows, float* out) const;
  void Rotate(const RotaryTable& rotary, Rows rows, uint64_t n_heads, float* heads) const;

  std::string file_;
  ModelSpec spec_;
  Linear linear_;
  StoredMatrix embedding_, output_;
  std::vector<Layer> layers_;
  std::vector<float> output_norm_;
  std::vector<float> rotary_divisors_;  // [head_dim / 2], or empty
};

void Llama::ReadRotaryDivisors(const TensorFinder& find) {
  if (!find.Has(TensorRole::kRopeFreqs)) return;
  rotary_divisors_ =
      linear_.DecodeVector(find.Vector(TensorRole::kRopeFreqs, {}, spec_.head_dim / 2));
  for (const float divisor : rotary_divisors_) {
    if (std::isfinite(divisor) && divisor > 0) continue;
    throw DataError("arch.rope-freqs", "impossible divisor of a rotary frequency")
        .File(file_)
        .Tensor(TensorName(TensorRole::kRopeFreqs))
        .Found(std::to_string(divisor))
        .Expected("a positive number");
  }
}

void Llama::Embed(const WindowBatch& batch, RowStore& x) const {
  for (const int32_t token : batch.tokens) {
    if (token >= 0 && static_cast<uint32_t>(token) < spec_.vocab_size) continue;
    throw DataError("forward.token", "a token has no row in the embedding")
        .File(file_)
        .Found(std::to_string(token))
        .Expected("less than " + std::to_string(spec_.vocab_size));
  }
  const uint64_t part = batch.n_windows * PartRows(batch.context, batch.part_rows);
  std::vector<float> buffer;
  for (uint64_t first = 0; first < batch.tokens.size(); first += part) {
    const uint64_t count = std::min<uint64_t>(part, batch.tokens.size() - first);
    float* rows = x.Room(first, count, buffer);
    ForEachRow(count, [&](uint64_t row) {
      linear_.Decode(embedding_, static_cast<uint64_t>(batch.tokens[first + row]), 1,
                     rows + row * spec_.d_model);
    });
    x.Put(first, count, rows);
  }
}

void Llama::Norm(const float* x, const std::vector<float>& weight, uint64_t n_rows,
                 float* out) const {
  const uint64_t d = spec_.d_model;
  ForEachRow(n_rows, [&](uint64_t row) {
    RmsNorm(x + row * d, weight.data(), d, spec_.norm_eps, out + row * d);
  });
}

void Llama::Rotate(const RotaryTable& rotary, Rows rows, uint64_t n_heads, float* heads) const {
  ForEachRow(rows.total(), [&](uint64_t row) {
    rotary.Rotate(heads + row * n_heads * spec_.head_dim, n_heads, rows.begin + row % rows.count);
  });
}

// Moves the rows [keep.begin, keep.begin + keep.count) of each window of `context` rows together.
void KeepRows(float* x, uint64_t width, uint64_t context, uint64_t n_windows, uint64_t begin,
              uint64_t count) {
  for (uint64_t w = 0; w < n_windows; ++w) {  // In order: a row only ever moves towards the front.
    std::memmove(x + w * count * width, x + (w * context + begin) * width,
                 count * width * sizeof(float));
  }
}

void Llama::RunLayers(const WindowBatch& batch, uint32_t begin, uint32_t end, RowStore& x) const {
  const uint64_t n_tokens = batch.n_windows * batch.context;
  const uint64_t part = PartRows(batch.context, batch.part_rows);
  const uint64_t kv_dim = KeyDim();
  const bool whole = part == batch.context;
  std::vector<float> normed(batch.n_windows * part * HiddenDim());  // a norm's, attention's result
  std::vector<float> inner(InnerElems(batch.n_windows * part, whole));
  // Keys and values in the first rows of `inner`, or a place of their own.
  RowStore k =
      whole ? RowStore(inner.data(), n_tokens, kv_dim) : RowStore(n_tokens, kv_dim, batch.place);
  RowStore v = whole ? RowStore(inner.data() + n_tokens * kv_dim, n_tokens, kv_dim)
                     : RowStore(n_tokens, kv_dim, batch.place);
  Scratch scratch;
  scratch.normed = normed.data();
  scratch.q = inner.data() + (whole ? 2 * n_tokens * kv_dim : 0);  // [n_windows * part, q_dim]
  scratch.ffn = inner.data();                                      // [n_windows * part, d_ff]
  scratch.k = &k;
  scratch.v = &v;
  scratch.input = &batch.input;
  std::vector<float> x_rows;

  // Of all positions, or anew of each part: that of a long window would be large.
  std::optional<RotaryTable> rotary;
  if (whole) rotary = RotaryOf(0, batch.context);
  const auto for_each_part = [&](const Rows& rows, const auto& body) {
    for (uint64_t first = 0; first < rows.count; first += part) {
      const Rows now = {rows.n_windows, rows.begin + first, std::min(part, rows.count - first)};
      if (!whole) rotary = RotaryOf(now.begin, now.count);
      body(first, now);
    }
  };
  for (uint32_t i = begin; i < end; ++i) {
    const Layer& layer = layers_[i];
    Rows rows = {batch.n_windows, 0, batch.context};
    for_each_part(rows, [&](uint64_t first, const Rows& now) {
      KeysAndValues(layer, *rotary, now, x.Get(first, now.total(), x_rows), scratch);
    });
    uint64_t from = 0;  // the row of `x` where `rows` begin
    if (i + 1 == spec_.n_layers) {
      // Nothing looks at the last layer's rows but the vocabulary: only the scored ones go on.
      rows = {batch.n_windows, batch.scored_begin, batch.n_scored};
      if (whole) {
        KeepRows(x.Get(0, n_tokens, x_rows), spec_.d_model, batch.context, rows.n_windows,
                 rows.begin, rows.count);
      } else {
        from = rows.begin;
      }
    }
    for_each_part(rows, [&](uint64_t first, const Rows& now) {
      float* now_x = x.Get(from + first, now.total(), x_rows);
      AttendAndFeed(layer, *rotary, batch.context, now, now_x, scratch);
      x.Put(first, now.total(), now_x);
    });
    if (batch.layer_done) batch.layer_done();
  }
}

// Keys and values of the rows, whose residual stream is `x` [rows, d].
void Llama::KeysAndValues(const Layer& layer, const RotaryTable& rotary, Rows rows, const float* x,
                          Scratch& scratch) const {
  const uint64_t d = spec_.d_model;
  const uint64_t n_rows = rows.total();
  Norm(x, layer.attn_norm, n_rows, scratch.normed);  // normed [rows, d]
  scratch.Show({layer.k, layer.v}, scratch.normed, n_rows);
  float* k = scratch.k->Room(rows.begin, n_rows, scratch.k_rows);  // [rows, kv_dim]
  float* v = scratch.v->Room(rows.begin, n_rows, scratch.v_rows);
  linear_.Multiply(layer.k, {scratch.normed, n_rows, d}, k);
  linear_.Multiply(layer.v, {scratch.normed, n_rows, d}, v);
  Rotate(rotary, rows, spec_.n_kv_heads, k);
  scratch.k->Put(rows.begin, n_rows, k);
  scratch.v->Put(rows.begin, n_rows, v);
}

// Writes attention's result for the queries of `rows`. Shape: out [rows, q_dim].
void Llama::Attend(uint64_t context, Rows rows, Scratch& scratch, float* out) const {
  Attention attention({.n_windows = rows.n_windows,
                       .query_begin = rows.begin,
                       .n_queries = rows.count,
                       .n_heads = spec_.n_heads,
                       .n_kv_heads = spec_.n_kv_heads,
                       .head_dim = spec_.head_dim},
                      scratch.q, out);
  const uint64_t n_keys = rows.begin + rows.count;  // Later ones are never looked at.
  for (uint64_t begin = 0; begin < n_keys; begin += kKeyBlock) {
    const uint64_t count = std::min(kKeyBlock, n_keys - begin);
    attention.Add(begin, count, scratch.k->Get(begin, count, scratch.k_rows),
                  scratch.v->Get(begin, count, scratch.v_rows), context);
  }
  attention.Finish();
}

// The rest of the layer for the rows, whose residual stream is `x` [rows, d].
void Llama::AttendAndFeed(const Layer& layer, const RotaryTable& rotary, uint64_t context,
                          Rows rows, float* x, Scratch& scratch) const {
  const uint64_t d = spec_.d_model;
  const uint64_t q_dim = QueryDim();
  const uint64_t n_rows = rows.total();
  float* normed = scratch.normed;
  Norm(x, layer.attn_norm, n_rows, normed);  // normed [rows, d]
  scratch.Show({layer.q}, normed, n_rows);
  linear_.Multiply(layer.q, {normed, n_rows, d}, scratch.q);
  Rotate(rotary, rows, spec_.n_heads, scratch.q);
  Attend(context, rows, scratch, normed);  // normed [rows, q_dim]
  scratch.Show({layer.attn_output}, normed, n_rows);
  linear_.MultiplyAdd(layer.attn_output, {normed, n_rows, q_dim}, x);

  Norm(x, layer.ffn_norm, n_rows, normed);  // normed [rows, d]
  scratch.Show({layer.ffn_gate, layer.ffn_up}, normed, n_rows);
  linear_.MultiplySwiGlu(layer.ffn_gate, layer.ffn_up, {normed, n_rows, d},
                         scratch.ffn);  // ffn [rows, d_ff]
  scratch.Show({layer.ffn_down}, scratch.ffn, n_rows);
  linear_.MultiplyAdd(layer.ffn_down, {scratch.ffn, n_rows, spec_.d_ff}, x);
}

void Llama::Finish(const WindowBatch& batch, RowStore& x) const {
  const uint64_t n_rows = batch.n_windows * batch.n_scored;
  const uint64_t part = batch.n_windows * PartRows(batch.context, batch.part_rows);
  std::vector<float> buffer;
  for (uint64_t first = 0; first < n_rows; first += part) {
    const uint64_t count = std::min(part, n_rows - first);
    float* rows = x.Get(first, count, buffer);
    Norm(rows, output_norm_, count, rows);
    if (batch.input) batch.input({output_.tensor, rows, count, spec_.d_model});
    x.Put(first, count, rows);
  }
}

}  // namespace

const ArchInfo kArchLlama = {
    "llama",
    [](const TensorStore& store, const ForwardOptions& options) -> std::unique_ptr<LanguageModel> {
      return std::make_unique<Llama>(store, options);
    }};

}  // namespace quern
