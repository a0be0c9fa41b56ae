#include "tests/verify/synthetic_model.h"

#include <cstring>
#include <stdexcept>

#include "formats/gguf_metadata.h"
#include "quant/codec.h"

namespace quern {
namespace {

// Source: "splitmix64" by Sebastiano Vigna.
uint64_t SplitMix(uint64_t z) {
  z += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// Returns element `i` of tensor `tensor`: 24 bits, in [-1, 1), exact in binary32.
float Element(uint64_t tensor, uint64_t i) {
  const auto bits = static_cast<int64_t>(SplitMix(tensor << 32 | i) >> 40);
  return static_cast<float>(bits - (int64_t{1} << 23)) * 0x1p-23f;
}

// The largest power of two with scale^2 / 3 * fan_in <= 1: rows keep their size.
float ScaleFor(uint64_t fan_in) {
  float scale = 1.0f;
  while (scale * scale / 3.0f * static_cast<float>(fan_in) > 1.0f) scale /= 2.0f;
  return scale;
}

}  // namespace

void SyntheticStore::AddTensor(TensorRole role, std::optional<uint32_t> layer,
                               std::vector<uint64_t> dims, float scale, float offset) {
  TensorInfo tensor;
  tensor.name = TensorName(role, layer);
  tensor.role = role;
  tensor.layer = layer;
  tensor.shape = *Shape::Make(dims);
  tensor.dtype = dims.size() == 2 ? matrix_type_ : DType::kF32;
  const uint64_t index = manifest_.tensors.size();
  std::vector<float> values(tensor.shape.n_elems());
  for (uint64_t i = 0; i < values.size(); ++i) values[i] = offset + scale * Element(index, i);
  bytes_.emplace_back(tensor.size_bytes());
  EncodeInput input{values.data(), tensor.rows(), tensor.cols()};
  input.effort = Effort::kFast;
  FindCodec(tensor.dtype)->encode(input, bytes_.back().data());
  manifest_.tensors.push_back(std::move(tensor));
}

SyntheticStore::SyntheticStore(const SyntheticSpec& spec) : matrix_type_(spec.matrix_type) {
  ModelSpec model;
  model.arch = "llama";
  model.n_layers = spec.n_layers;
  model.n_heads = spec.n_heads;
  model.n_kv_heads = spec.n_kv_heads;
  model.head_dim = spec.head_dim;
  model.d_model = spec.d_model;
  model.d_ff = spec.d_ff;
  model.vocab_size = 259;
  model.context_length = 4096;
  model.norm_eps = 1e-5f;
  model.rope_theta = spec.rope_theta;
  if (spec.rope_linear_factor > 0) model.rope_linear_factor = spec.rope_linear_factor;
  model.tied_embeddings = spec.tied_embeddings;
  manifest_.spec = model;

  Tokenizer& tokenizer = manifest_.tokenizer;
  tokenizer.kind = Tokenizer::Kind::kSentencePiece;
  for (const char* token : {"<unk>", "<s>", "</s>"}) tokenizer.tokens.push_back(token);
  tokenizer.types = {TokenType::kUnknown, TokenType::kControl, TokenType::kControl};
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof(text), "<0x%02X>", static_cast<unsigned>(byte));
    tokenizer.tokens.push_back(text);
    tokenizer.types.push_back(TokenType::kByte);
  }
  tokenizer.scores.assign(259, 0.0f);
  tokenizer.bos_id = 1;
  tokenizer.eos_id = 2;
  tokenizer.unk_id = 0;
  tokenizer.add_space_prefix = false;

  const uint64_t d = spec.d_model, ff = spec.d_ff;
  const uint64_t q = uint64_t{spec.n_heads} * spec.head_dim;
  const uint64_t kv = uint64_t{spec.n_kv_heads} * spec.head_dim;
  const float in_d = ScaleFor(d);
  AddTensor(TensorRole::kTokenEmbedding, {}, {259, d}, 1.0f, 0.0f);
  for (uint32_t i = 0; i < spec.n_layers; ++i) {
    AddTensor(TensorRole::kAttnNorm, i, {d}, 0.25f, 1.0f);
    AddTensor(TensorRole::kAttnQ, i, {q, d}, 4 * in_d, 0.0f);  // Sharp attention: order matters.
    AddTensor(TensorRole::kAttnK, i, {kv, d}, in_d, 0.0f);
    AddTensor(TensorRole::kAttnV, i, {kv, d}, in_d, 0.0f);
    AddTensor(TensorRole::kAttnOutput, i, {d, q}, ScaleFor(q), 0.0f);
    AddTensor(TensorRole::kFfnNorm, i, {d}, 0.25f, 1.0f);
    AddTensor(TensorRole::kFfnGate, i, {ff, d}, in_d, 0.0f);
    AddTensor(TensorRole::kFfnUp, i, {ff, d}, in_d, 0.0f);
    AddTensor(TensorRole::kFfnDown, i, {d, ff}, ScaleFor(ff), 0.0f);
  }
  AddTensor(TensorRole::kOutputNorm, {}, {d}, 0.25f, 1.0f);
  if (!spec.tied_embeddings) AddTensor(TensorRole::kOutput, {}, {259, d}, 2 * in_d, 0.0f);
  if (spec.rope_divisors) {
    AddTensor(TensorRole::kRopeFreqs, {}, {spec.head_dim / 2}, 3.0f, 4.0f);
  }
}

void SyntheticStore::ReadRows(size_t tensor, uint64_t begin, uint64_t count,
                              MutableByteView out) const {
  const uint64_t row_bytes = manifest_.tensors[tensor].row_bytes();
  std::memcpy(out.data(), bytes_[tensor].data() + begin * row_bytes, count * row_bytes);
}

size_t SyntheticStore::Find(TensorRole role, std::optional<uint32_t> layer) const {
  for (size_t i = 0; i < manifest_.tensors.size(); ++i) {
    if (manifest_.tensors[i].role == role && manifest_.tensors[i].layer == layer) return i;
  }
  throw std::logic_error("no such tensor");
}

std::string SyntheticText(size_t n) {
  std::string text(n, '\0');
  for (size_t i = 0; i < n; ++i) text[i] = static_cast<char>('a' + SplitMix(uint64_t{99} << 32 | i) % 26);
  return text;
}

}  // namespace quern
