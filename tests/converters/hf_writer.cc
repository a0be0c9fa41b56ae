#include "tests/converters/hf_writer.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string_view>

#include "tests/converters/torch_writer.h"

namespace quern::testing {
namespace {

std::string Name(const TensorInfo& tensor) {
  const std::string layer = "model.layers." + std::to_string(tensor.layer.value_or(0)) + ".";
  switch (tensor.role) {
    case TensorRole::kTokenEmbedding:
      return "model.embed_tokens.weight";
    case TensorRole::kAttnNorm:
      return layer + "input_layernorm.weight";
    case TensorRole::kAttnQ:
      return layer + "self_attn.q_proj.weight";
    case TensorRole::kAttnK:
      return layer + "self_attn.k_proj.weight";
    case TensorRole::kAttnV:
      return layer + "self_attn.v_proj.weight";
    case TensorRole::kAttnOutput:
      return layer + "self_attn.o_proj.weight";
    case TensorRole::kFfnNorm:
      return layer + "post_attention_layernorm.weight";
    case TensorRole::kFfnGate:
      return layer + "mlp.gate_proj.weight";
    case TensorRole::kFfnUp:
      return layer + "mlp.up_proj.weight";
    case TensorRole::kFfnDown:
      return layer + "mlp.down_proj.weight";
    case TensorRole::kOutputNorm:
      return "model.norm.weight";
    case TensorRole::kOutput:
      return "lm_head.weight";
    default:
      throw std::invalid_argument("no name for " + tensor.name);
  }
}

// w.view(heads, head_dim / 2, 2, cols).transpose(1, 2): of each head first the even rows.
std::vector<uint8_t> Permuted(const std::vector<uint8_t>& bytes, uint64_t row_bytes,
                              uint64_t head_dim) {
  std::vector<uint8_t> out;
  const uint64_t n_rows = bytes.size() / row_bytes;
  for (uint64_t head = 0; head < n_rows / head_dim; ++head) {
    for (uint64_t part = 0; part < 2; ++part) {
      for (uint64_t i = 0; i < head_dim / 2; ++i) {
        const auto row =
            bytes.begin() + static_cast<ptrdiff_t>((head * head_dim + 2 * i + part) * row_bytes);
        out.insert(out.end(), row, row + static_cast<ptrdiff_t>(row_bytes));
      }
    }
  }
  return out;
}

std::string_view SafetensorsType(DType type) {
  switch (type) {
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
    default:
      throw std::invalid_argument("no safetensors type");
  }
}

std::string ShapeJson(const std::vector<uint64_t>& shape) {
  std::string text = "[";
  for (const uint64_t dim : shape) text += (text.size() > 1 ? "," : "") + std::to_string(dim);
  return text + "]";
}

std::string Quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      out += escape;
    } else {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
  }
  return out + "\"";
}

std::string Number(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", value);
  return text;
}

// Every way to make a piece of two pieces, best piece first, as transformers' conversion has it.
std::string SpmMerges(const Tokenizer& tokenizer) {
  std::map<std::string_view, size_t> ids;
  for (size_t id = 0; id < tokenizer.tokens.size(); ++id) ids[tokenizer.tokens[id]] = id;
  struct Merge {
    float score;
    std::string_view left, right;
  };
  std::vector<Merge> merges;
  for (const auto& [piece, id] : ids) {
    for (size_t cut = 1; cut < piece.size(); ++cut) {
      const std::string_view left = piece.substr(0, cut), right = piece.substr(cut);
      if (tokenizer.types[id] != TokenType::kNormal) continue;
      if (ids.contains(left) && ids.contains(right))
        merges.push_back({tokenizer.scores[id], left, right});
    }
  }
  std::stable_sort(merges.begin(), merges.end(),
                   [](const Merge& a, const Merge& b) { return a.score > b.score; });
  std::string text;
  for (const Merge& merge : merges) {
    text +=
        (text.empty() ? "" : ",") + Quote(std::string(merge.left) + " " + std::string(merge.right));
  }
  return text;
}

}  // namespace

FileBytes TextFileBytes(const std::string& name, const std::string& text) {
  return {name, {text.begin(), text.end()}};
}

std::vector<uint8_t> WriteSafetensors(const std::vector<SavedTensor>& tensors) {
  std::string header = R"({"__metadata__":{"format":"pt"})";
  uint64_t begin = 0;
  for (const SavedTensor& tensor : tensors) {
    const uint64_t end = begin + tensor.bytes.size();
    header += "," + Quote(tensor.name) + R"(:{"dtype":")" + tensor.dtype + R"(","shape":)" +
              ShapeJson(tensor.shape) + R"(,"data_offsets":[)" + std::to_string(begin) + "," +
              std::to_string(end) + "]}";
    begin = end;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::vector<uint8_t> bytes;
  for (int shift = 0; shift < 64; shift += 8) {
    bytes.push_back(static_cast<uint8_t>(static_cast<uint64_t>(header.size()) >> shift));
  }
  bytes.insert(bytes.end(), header.begin(), header.end());
  for (const SavedTensor& tensor : tensors) {
    bytes.insert(bytes.end(), tensor.bytes.begin(), tensor.bytes.end());
  }
  return bytes;
}

std::vector<uint8_t> WriteTorchBin(const std::vector<SavedTensor>& tensors) {
  std::vector<WrittenStorage> storages;
  std::vector<WrittenTensor> written;
  for (const SavedTensor& tensor : tensors) {
    const bool is_f32 = tensor.dtype == "F32";
    const char* storage_class = is_f32                  ? "FloatStorage"
                                : tensor.dtype == "F16" ? "HalfStorage"
                                                        : "BFloat16Storage";
    std::vector<uint64_t> strides(tensor.shape.size(), 1);
    for (size_t i = strides.size(); i-- > 1;) strides[i - 1] = strides[i] * tensor.shape[i];
    written.push_back({.name = tensor.name,
                       .storage = storages.size(),
                       .offset_elems = 0,
                       .shape = tensor.shape,
                       .strides = strides});
    storages.push_back(
        {.torch_class = storage_class, .elem_bytes = is_f32 ? 4u : 2u, .bytes = tensor.bytes});
  }
  TorchFileStyle style;
  style.archive = "pytorch_model";
  style.ordered_dict = true;
  return WriteTorchFile(storages, written, style);
}

std::vector<SavedTensor> HfTensorsOf(const TensorStore& model) {
  std::vector<SavedTensor> tensors;
  const Manifest& manifest = model.manifest();
  for (size_t i = 0; i < manifest.tensors.size(); ++i) {
    const TensorInfo& info = manifest.tensors[i];
    if (info.role == TensorRole::kRopeFreqs) continue;
    std::vector<uint8_t> bytes(info.size_bytes());
    model.ReadRows(i, 0, info.rows(), bytes);
    if (info.role == TensorRole::kAttnQ || info.role == TensorRole::kAttnK) {
      bytes = Permuted(bytes, info.row_bytes(), manifest.spec->head_dim);
    }
    std::vector<uint64_t> shape;
    for (size_t k = 0; k < info.shape.rank(); ++k) shape.push_back(info.shape.dim(k));
    tensors.push_back(
        {Name(info), std::string(SafetensorsType(info.dtype)), shape, std::move(bytes)});
  }
  return tensors;
}

std::string HfConfigOf(const TensorStore& model, const std::string& more) {
  const ModelSpec& spec = *model.manifest().spec;
  const auto member = [](const char* key, uint64_t value) {
    return std::string(", \"") + key + "\": " + std::to_string(value);
  };
  return R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu")" +
         member("hidden_size", spec.d_model) + member("intermediate_size", spec.d_ff) +
         member("num_hidden_layers", spec.n_layers) + member("num_attention_heads", spec.n_heads) +
         member("num_key_value_heads", spec.n_kv_heads) +
         member("max_position_embeddings", spec.context_length) +
         member("vocab_size", spec.vocab_size) + ", \"rms_norm_eps\": " + Number(spec.norm_eps) +
         ", \"rope_theta\": " + Number(spec.rope_theta) +
         (spec.tied_embeddings ? ", \"tie_word_embeddings\": true" : "") + more + "}";
}

std::string TokenizerJsonOf(const Tokenizer& tokenizer) {
  const bool is_spm = tokenizer.kind == Tokenizer::Kind::kSentencePiece;
  std::string vocab, added;
  for (size_t id = 0; id < tokenizer.tokens.size(); ++id) {
    const std::string text = Quote(tokenizer.tokens[id]);
    const TokenType type = tokenizer.types[id];
    const bool special = type == TokenType::kControl || type == TokenType::kUnknown;
    if (special || type == TokenType::kUserDefined) {
      added += (added.empty() ? "" : ",") + std::string(R"({"id":)") + std::to_string(id) +
               R"(,"content":)" + text + R"(,"special":)" + (special ? "true}" : "false}");
    }
    if (special && !is_spm) continue;  // byte-level vocabularies hold text only
    vocab += (vocab.empty() ? "" : ",") + text + ":" + std::to_string(id);
  }
  std::string merges = is_spm ? SpmMerges(tokenizer) : "";
  for (size_t i = 0; i < tokenizer.merges.size(); ++i) {
    merges += (i > 0 ? "," : "") + Quote(tokenizer.merges[i]);
  }
  const std::string bos =
      tokenizer.bos_id ? Quote(tokenizer.tokens[*tokenizer.bos_id]) : std::string("\"\"");
  const std::string post =
      R"("post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":)" + bos +
      R"(,"type_id":0}},{"Sequence":{"id":"A","type_id":0}}]},)";
  if (is_spm) {
    return R"({"version":"1.0","added_tokens":[)" + added +
           R"(],"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},)"
           R"({"type":"Replace","pattern":{"String":" "},"content":"▁"}]},"pre_tokenizer":null,)" +
           post + R"("model":{"type":"BPE","unk_token":"<unk>","byte_fallback":true,"vocab":{)" +
           vocab + R"(},"merges":[)" + merges + "]}}";
  }
  return R"({"version":"1.0","added_tokens":[)" + added +
         R"(],"normalizer":null,"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":)" +
         Quote(
             R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)") +
         R"(},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]},)" +
         post + R"("model":{"type":"BPE","byte_fallback":false,"ignore_merges":true,"vocab":{)" +
         vocab + R"(},"merges":[)" + merges + "]}}";
}

std::vector<FileBytes> SaveWeights(const std::vector<SavedTensor>& tensors, const HfStyle& style) {
  const std::string stem = style.torch ? "pytorch_model" : "model";
  const std::string suffix = style.torch ? ".bin" : ".safetensors";
  const auto write = style.torch ? WriteTorchBin : WriteSafetensors;
  if (style.n_shards == 1) return {{stem + suffix, write(tensors)}};
  std::vector<FileBytes> files;
  std::string map;
  const size_t per_shard = (tensors.size() + style.n_shards - 1) / style.n_shards;
  for (uint32_t shard = 0; shard < style.n_shards; ++shard) {
    const size_t begin = std::min(shard * per_shard, tensors.size());
    const size_t end = std::min(begin + per_shard, tensors.size());
    char name[64];
    std::snprintf(name, sizeof name, "%s-%05u-of-%05u%s", stem.c_str(), shard + 1, style.n_shards,
                  suffix.c_str());
    const std::vector<SavedTensor> part(tensors.begin() + static_cast<ptrdiff_t>(begin),
                                        tensors.begin() + static_cast<ptrdiff_t>(end));
    files.push_back({name, write(part)});
    for (const SavedTensor& tensor : part) {
      map += (map.empty() ? "" : ",") + Quote(tensor.name) + ":" + Quote(name);
    }
  }
  files.push_back(TextFileBytes(stem + suffix + ".index.json",
                                R"({"metadata":{"total_size":1},"weight_map":{)" + map + "}}"));
  return files;
}

}  // namespace quern::testing
