#include "formats/gguf_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string>

#include "formats/core/bytes.h"

namespace quern {
namespace {

// Layers of real models number in the low hundreds; readers allocate per layer.
constexpr uint64_t kMaxLayers = 65536;
constexpr uint64_t kMaxUint32 = std::numeric_limits<uint32_t>::max();
constexpr uint64_t kMaxTokenId = std::numeric_limits<int32_t>::max();

// Reads the spec of an architecture whose keys are those of `llama`. Impossible values throw at
// once; absence and features that quern does not compute are remembered in why_not().
class SpecReader {
 public:
  SpecReader(KeyReader& keys, std::string_view file, const std::string& arch)
      : keys_(keys), file_(file) {
    prefix_ = arch + ".";
    spec_.arch = arch;
  }

  std::optional<ModelSpec> Read(const std::vector<TensorInfo>& tensors, uint64_t n_tokens);
  const std::optional<Error>& why_not() const { return why_not_; }

 private:
  std::string Key(std::string_view suffix) const { return prefix_ + std::string(suffix); }

  void Unknown(Error error) {
    if (!why_not_) why_not_ = std::move(error.File(Escaped(file_, 4096)));
  }
  void Missing(std::string_view suffix) {
    Unknown(DataError("model.missing-key", "header lacks a key that the model needs")
                .Where("key " + Quoted(Key(suffix)))
                .Hint(kGgufHeaderHint));
  }
  void Feature(std::string_view suffix, std::string_view what) {
    Unknown(UnsupportedError("model.feature", what)
                .Where("key " + Quoted(Key(suffix)))
                .Hint("a newer quern may know it"));
  }

  // Returns a count within [1, max], or nothing if the key is absent. Per-layer arrays count as one
  // number where all layers agree.
  std::optional<uint32_t> Count(std::string_view suffix, uint64_t max = kMaxUint32);
  uint32_t Required(std::string_view suffix, std::optional<uint32_t> value) {
    if (!value) Missing(suffix);
    return value.value_or(0);
  }
  void ReadHeads();
  void ReadRope();
  void ReadVocabSize(const std::vector<TensorInfo>& tensors, uint64_t n_tokens);

  KeyReader& keys_;
  std::string_view file_;
  std::string prefix_;
  ModelSpec spec_;
  std::optional<Error> why_not_;
};

std::optional<uint32_t> SpecReader::Count(std::string_view suffix, uint64_t max) {
  const std::string key = Key(suffix);
  const MetadataValue* value = keys_.Find(key);
  std::optional<uint32_t> count;
  if (value != nullptr && value->type == MetadataType::kArray) {
    const MetadataArray& array = value->array();
    if (array.elem_type != MetadataType::kUint32 && array.elem_type != MetadataType::kInt32) {
      throw keys_.BadType(key, "UINT32");
    }
    for (size_t i = 0; i < array.size(); ++i) {
      const uint32_t item = LoadLE<uint32_t>(&array.scalars[4 * i]);
      if (count && *count != item) {
        Feature(suffix, "layers of different size");
        return std::nullopt;
      }
      count = item;
    }
    if (!count) throw keys_.BadValue("array is empty", key);
  } else {
    count = keys_.Uint(key);
  }
  if (!count) return std::nullopt;
  if (*count == 0 || *count > max) {
    throw keys_.BadValue("value is impossible", key).Expected(fmt::format("1 to {}", max));
  }
  return count;
}

void SpecReader::ReadHeads() {
  const auto n_heads = Count("attention.head_count");
  const auto n_kv_heads = Count("attention.head_count_kv");
  const auto key_length = Count("attention.key_length");
  const auto value_length = Count("attention.value_length");
  spec_.n_heads = Required("attention.head_count", n_heads);
  spec_.n_kv_heads = n_kv_heads.value_or(spec_.n_heads);
  if (n_heads && n_kv_heads && *n_heads % *n_kv_heads != 0) {
    throw keys_
        .BadValue("value does not divide the number of heads", Key("attention.head_count_kv"))
        .Expected(fmt::format("a divisor of {}", *n_heads));
  }
  if (key_length) {
    spec_.head_dim = *key_length;
  } else if (n_heads && spec_.d_model != 0) {
    if (spec_.d_model % *n_heads != 0) {
      throw keys_.BadValue("value is no multiple of the number of heads", Key("embedding_length"))
          .Expected(fmt::format("a multiple of {}", *n_heads));
    }
    spec_.head_dim = spec_.d_model / *n_heads;
  }
  if (uint64_t{spec_.head_dim} * spec_.n_heads > kMaxUint32) {
    throw keys_.BadValue("value is impossible", Key("attention.key_length"))
        .Expected(fmt::format("{} heads to fit 32 bits together", spec_.n_heads));
  }
  if (value_length && spec_.head_dim != 0 && *value_length != spec_.head_dim) {
    Feature("attention.value_length", "heads whose keys and values differ in size");
  }
}

void SpecReader::ReadRope() {
  const auto dimensions = Count("rope.dimension_count");
  if (dimensions && spec_.head_dim != 0 && *dimensions != spec_.head_dim) {
    throw keys_.BadValue("value is not the size of a head", Key("rope.dimension_count"))
        .Expected(std::to_string(spec_.head_dim));
  }
  if (spec_.head_dim % 2 != 0) {
    throw keys_.BadValue("heads of odd size cannot be rotated", Key("attention.head_count"))
        .Expected("an even size of heads");
  }
  // A file without the key means 10000, as Llama 1 and 2 do.
  spec_.rope_theta = keys_.Float(Key("rope.freq_base")).value_or(10000.0F);
  if (!(spec_.rope_theta > 0)) {
    throw keys_.BadValue("value is impossible", Key("rope.freq_base"))
        .Expected("a positive number");
  }
  const auto type = keys_.Text(Key("rope.scaling.type"));
  const bool is_new = keys_.Find(Key("rope.scaling.factor")) != nullptr;
  const std::string factor_key = Key(is_new ? "rope.scaling.factor" : "rope.scale_linear");
  const auto factor = keys_.Float(factor_key);
  if (factor && *factor < 0)
    throw keys_.BadValue("value is impossible", factor_key).Expected("a positive number");
  if (type && *type != "none" && *type != "linear") {
    Feature("rope.scaling.type", fmt::format("position scaling {}", Quoted(*type)));
  }
  // Factor 0 stands for no scaling in files of early converters.
  if (type.value_or("linear") == "linear" && factor && *factor != 0)
    spec_.rope_linear_factor = factor;
}

void SpecReader::ReadVocabSize(const std::vector<TensorInfo>& tensors, uint64_t n_tokens) {
  const auto stated = Count("vocab_size", kMaxTokenId);
  uint64_t vocab_size = n_tokens != 0 ? n_tokens : stated.value_or(0);
  // The matrix decides where there is one: vocabularies are padded, and the key is often stale.
  for (const TensorInfo& tensor : tensors) {
    if (tensor.role == TensorRole::kTokenEmbedding) vocab_size = tensor.rows();
  }
  if (vocab_size == 0) Missing("vocab_size");
  if (vocab_size > kMaxTokenId) {
    throw DataError("model.value", "vocabulary is impossibly large")
        .File(Escaped(file_, 4096))
        .Where("tensor 'token_embd.weight'")
        .Found(fmt::format("{} rows", vocab_size))
        .Expected(fmt::format("at most {}", kMaxTokenId))
        .Hint(kGgufHeaderHint);
  }
  spec_.vocab_size = static_cast<uint32_t>(vocab_size);
}

std::optional<ModelSpec> SpecReader::Read(const std::vector<TensorInfo>& tensors,
                                          uint64_t n_tokens) {
  spec_.n_layers = Required("block_count", Count("block_count", kMaxLayers));
  spec_.d_model = Required("embedding_length", Count("embedding_length"));
  spec_.d_ff = Required("feed_forward_length", Count("feed_forward_length"));
  spec_.context_length = Required("context_length", Count("context_length"));
  const auto norm_eps = keys_.Float(Key("attention.layer_norm_rms_epsilon"));
  if (!norm_eps) Missing("attention.layer_norm_rms_epsilon");
  spec_.norm_eps = norm_eps.value_or(0);
  if (spec_.norm_eps < 0) {
    throw keys_.BadValue("value is impossible", Key("attention.layer_norm_rms_epsilon"))
        .Expected("at least 0");
  }
  ReadHeads();
  ReadRope();
  ReadVocabSize(tensors, n_tokens);
  if (keys_.Uint(Key("expert_count")).value_or(0) > 0)
    Feature("expert_count", "mixture of experts");
  spec_.tied_embeddings = std::ranges::none_of(
      tensors, [](const TensorInfo& tensor) { return tensor.role == TensorRole::kOutput; });
  if (why_not_) return std::nullopt;
  return spec_;
}

}  // namespace

SpecOrReason ReadSpec(KeyReader& keys, std::string_view file,
                      const std::vector<TensorInfo>& tensors, uint64_t n_tokens) {
  const auto arch = keys.Text("general.architecture");
  if (!arch) {
    return {{},
            keys.Bad("model.missing-key", "header lacks a key that the model needs",
                     "general.architecture")};
  }
  if (*arch != "llama") {
    Error error = UnsupportedError("model.architecture", "architecture is unknown to quern");
    error.File(Escaped(file, 4096))
        .Where("key 'general.architecture'")
        .Found(Quoted(*arch))
        .Expected("'llama'")
        .Hint("quern reads models of Llama's architecture only");
    return {{}, error};
  }
  SpecReader reader(keys, file, *arch);
  auto spec = reader.Read(tensors, n_tokens);
  return {std::move(spec), reader.why_not()};
}

}  // namespace quern
