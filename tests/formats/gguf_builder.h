// Builds GGUF files byte by byte from the specification, right or wrong, without quern's writer.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace quern::testing {

using Bytes = std::vector<uint8_t>;

template <typename T>
void PutLE(Bytes& out, T value) {
  uint8_t bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  // One by one: g++ 12 warns of the insertion of a range into an empty vector.
  for (const uint8_t byte : bytes) out.push_back(byte);
}
inline void PutText(Bytes& out, std::string_view text) {
  out.insert(out.end(), text.begin(), text.end());
}

struct GgufBuilder {
  uint32_t version = 3;
  uint64_t alignment = 32;
  std::string magic = "GGUF";
  std::vector<Bytes> keys, infos;
  Bytes data;
  uint64_t n_keys_more = 0, n_tensors_more = 0;  // what the counts claim beyond the truth

  void Size(Bytes& out, uint64_t value) const {
    if (version == 1) {
      PutLE(out, static_cast<uint32_t>(value));
    } else {
      PutLE(out, value);
    }
  }
  void String(Bytes& out, std::string_view text) const {
    Size(out, text.size());
    PutText(out, text);
  }
  Bytes KeyAndType(std::string_view key, uint32_t type) const {
    Bytes out;
    String(out, key);
    PutLE(out, type);
    return out;
  }

  template <typename T>
  GgufBuilder& Key(std::string_view key, uint32_t type, T value) {
    Bytes out = KeyAndType(key, type);
    PutLE(out, value);
    keys.push_back(out);
    return *this;
  }
  GgufBuilder& U32(std::string_view key, uint32_t value) { return Key(key, 4, value); }
  GgufBuilder& F32(std::string_view key, float value) { return Key(key, 6, value); }
  GgufBuilder& Bool(std::string_view key, bool value) {
    return Key(key, 7, static_cast<uint8_t>(value));
  }
  GgufBuilder& Text(std::string_view key, std::string_view value) {
    Bytes out = KeyAndType(key, 8);
    String(out, value);
    keys.push_back(out);
    return *this;
  }
  GgufBuilder& Strings(std::string_view key, const std::vector<std::string>& items) {
    Bytes out = KeyAndType(key, 9);
    PutLE<uint32_t>(out, 8);
    Size(out, items.size());
    for (const auto& item : items) String(out, item);
    keys.push_back(out);
    return *this;
  }
  template <typename T>
  GgufBuilder& Array(std::string_view key, uint32_t elem_type, const std::vector<T>& items) {
    Bytes out = KeyAndType(key, 9);
    PutLE(out, elem_type);
    Size(out, items.size());
    for (const T item : items) PutLE(out, item);
    keys.push_back(out);
    return *this;
  }

  // Adds a tensor info as given; `ne` has the contiguous dimension first.
  GgufBuilder& Info(std::string_view name, const std::vector<uint64_t>& ne, uint32_t type,
                    uint64_t offset) {
    Bytes out;
    String(out, name);
    PutLE(out, static_cast<uint32_t>(ne.size()));
    for (const uint64_t n : ne) Size(out, n);
    PutLE(out, type);
    PutLE(out, offset);
    infos.push_back(out);
    return *this;
  }
  // Adds a tensor with its bytes, at the place where it belongs.
  GgufBuilder& Tensor(std::string_view name, const std::vector<uint64_t>& ne, uint32_t type,
                      const Bytes& bytes) {
    Info(name, ne, type, data.size());
    data.insert(data.end(), bytes.begin(), bytes.end());
    data.resize((data.size() + alignment - 1) / alignment * alignment);
    return *this;
  }

  Bytes Header() const {
    Bytes out;
    PutText(out, magic);
    PutLE(out, version);
    Size(out, infos.size() + n_tensors_more);
    Size(out, keys.size() + n_keys_more);
    for (const auto& key : keys) out.insert(out.end(), key.begin(), key.end());
    for (const auto& info : infos) out.insert(out.end(), info.begin(), info.end());
    return out;
  }
  Bytes Build() const {
    Bytes out = Header();
    if (!infos.empty()) out.resize((out.size() + alignment - 1) / alignment * alignment);
    out.insert(out.end(), data.begin(), data.end());
    return out;
  }
};

// Returns `n` bytes that differ from place to place.
inline Bytes Pattern(size_t n, uint32_t seed = 1) {
  Bytes out(n);
  for (uint8_t& byte : out) {
    seed = seed * 1664525 + 1013904223;
    byte = static_cast<uint8_t>(seed >> 24);
  }
  return out;
}

// Returns a file of a small but whole llama: two layers, grouped heads, four types, a vocabulary.
inline GgufBuilder SmallLlama(uint32_t version = 3, uint64_t alignment = 32) {
  GgufBuilder b;
  b.version = version;
  b.alignment = alignment;
  b.Text("general.architecture", "llama").Text("general.name", "tiny");
  if (alignment != 32) b.U32("general.alignment", static_cast<uint32_t>(alignment));
  b.Text("general.license", "mit")
      .U32("general.file_type", 7)
      .U32("general.quantization_version", 2);
  b.U32("llama.context_length", 128).U32("llama.embedding_length", 32).U32("llama.block_count", 2);
  b.U32("llama.feed_forward_length", 64)
      .U32("llama.attention.head_count", 4)
      .U32("llama.attention.head_count_kv", 2);
  b.F32("llama.attention.layer_norm_rms_epsilon", 1e-5F).U32("llama.rope.dimension_count", 8);
  b.Text("llama.tensor_data_layout", "Meta AI original pth");
  b.Text("tokenizer.ggml.model", "llama").Text("tokenizer.ggml.pre", "default");
  b.Strings("tokenizer.ggml.tokens", {"<unk>", "<s>", "</s>", "\xE2\x96\x81", "a"});
  b.Array<float>("tokenizer.ggml.scores", 6, {0, 0, 0, -1, -2});
  b.Array<int32_t>("tokenizer.ggml.token_type", 5, {2, 3, 3, 1, 1});
  b.U32("tokenizer.ggml.bos_token_id", 1).U32("tokenizer.ggml.eos_token_id", 2);
  b.U32("tokenizer.ggml.unknown_token_id", 0).Bool("tokenizer.ggml.add_bos_token", true);
  const auto Add = [&](const std::string& name, std::vector<uint64_t> ne, uint32_t type) {
    uint64_t n_elems = 1;
    for (const uint64_t n : ne) n_elems *= n;
    const uint64_t n_bytes = type == 0   ? 4 * n_elems
                             : type == 1 ? 2 * n_elems
                                         : n_elems / 32 * (type == 8 ? 34 : 18);
    b.Tensor(name, ne, type, Pattern(n_bytes, static_cast<uint32_t>(b.infos.size())));
  };
  Add("token_embd.weight", {32, 5}, 1);
  for (const std::string layer : {"blk.0.", "blk.1."}) {
    Add(layer + "attn_norm.weight", {32}, 0);
    Add(layer + "attn_q.weight", {32, 32}, 8);
    Add(layer + "attn_k.weight", {32, 16}, 8);
    Add(layer + "attn_v.weight", {32, 16}, 2);
    Add(layer + "attn_output.weight", {32, 32}, 8);
    Add(layer + "ffn_norm.weight", {32}, 0);
    Add(layer + "ffn_gate.weight", {32, 64}, 8);
    Add(layer + "ffn_up.weight", {32, 64}, 8);
    Add(layer + "ffn_down.weight", {64, 32}, 2);
  }
  Add("output_norm.weight", {32}, 0);
  Add("output.weight", {32, 5}, 8);
  return b;
}

}  // namespace quern::testing
