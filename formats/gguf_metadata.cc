#include "formats/gguf_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/core/check.h"
#include "formats/duplicates.h"
#include "formats/gguf_format.h"

namespace quern {
namespace {

// What to do about a header that contradicts itself.
constexpr std::string_view kHint =
    "the file is damaged or its writer wrong: fetch it again, or convert the model anew";

// ---- Tensor names ----

struct NameRow {
  TensorRole role;
  std::string_view stem;
  bool per_layer;
};
constexpr NameRow kNames[] = {
    {TensorRole::kTokenEmbedding, "token_embd", false},
    {TensorRole::kAttnNorm, "attn_norm", true},
    {TensorRole::kAttnQ, "attn_q", true},
    {TensorRole::kAttnK, "attn_k", true},
    {TensorRole::kAttnV, "attn_v", true},
    {TensorRole::kAttnOutput, "attn_output", true},
    {TensorRole::kFfnNorm, "ffn_norm", true},
    {TensorRole::kFfnGate, "ffn_gate", true},
    {TensorRole::kFfnUp, "ffn_up", true},
    {TensorRole::kFfnDown, "ffn_down", true},
    {TensorRole::kOutputNorm, "output_norm", false},
    {TensorRole::kOutput, "output", false},
    {TensorRole::kRopeFreqs, "rope_freqs", false},
};
constexpr std::string_view kLayerPrefix = "blk.";
constexpr std::string_view kWeightSuffix = ".weight";

constexpr bool RowsStandInRoleOrder() {
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (static_cast<size_t>(kNames[i].role) != i) return false;
  }
  return std::size(kNames) == static_cast<size_t>(TensorRole::kOther);
}
static_assert(RowsStandInRoleOrder());

const NameRow& RowOf(TensorRole role) {
  QUERN_CHECK(role != TensorRole::kOther);
  return kNames[static_cast<size_t>(role)];
}

// Returns the number that `text` is, written as std::to_string does.
std::optional<uint32_t> ParseLayer(std::string_view text) {
  if (text.empty() || text.size() > 10 || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  if (value > std::numeric_limits<uint32_t>::max()) return std::nullopt;
  return static_cast<uint32_t>(value);
}

// ---- Writing keys ----

using Value = std::optional<MetadataValue>;

Value TextUnlessEmpty(const std::string& text) {
  return text.empty() ? Value() : MetadataValue::Text(text);
}
Value U32(std::optional<uint32_t> v) { return v ? Value(MetadataValue::U32(*v)) : Value(); }
Value Bool(std::optional<bool> v) { return v ? Value(MetadataValue::Bool(*v)) : Value(); }

template <typename T>
Value ScalarArray(MetadataType type, const std::vector<T>& items) {
  static_assert(sizeof(T) == 4);
  if (items.empty()) return {};
  MetadataArray array;
  array.elem_type = type;
  array.scalars.resize(items.size() * sizeof(T));
  std::memcpy(array.scalars.data(), items.data(), array.scalars.size());
  return MetadataValue{MetadataType::kArray, std::move(array)};
}
Value StringArray(const StringList& items) {
  MetadataArray array;
  array.elem_type = MetadataType::kString;
  array.strings = items;
  return MetadataValue{MetadataType::kArray, std::move(array)};
}

bool IsQuantized(const TensorInfo& tensor) { return LayoutOf(tensor.dtype).block_elems > 1; }

bool HasVocabulary(const Tokenizer& tokenizer) {
  return tokenizer.kind == Tokenizer::Kind::kSentencePiece ||
         tokenizer.kind == Tokenizer::Kind::kBytePair;
}

// Returns true where head_dim is not what a reader derives from the width and the number of heads.
bool HeadDimIsApart(const ModelSpec& spec) {
  return uint64_t{spec.head_dim} * spec.n_heads != spec.d_model;
}

std::string TokenizerModelName(const Tokenizer& tokenizer) {
  switch (tokenizer.kind) {
    case Tokenizer::Kind::kSentencePiece:
      return "llama";
    case Tokenizer::Kind::kBytePair:
      return "gpt2";
    case Tokenizer::Kind::kOther:
      return tokenizer.model_name;
    case Tokenizer::Kind::kNone:
      break;
  }
  return "";
}

// Which part of the manifest a key belongs to. The rows of kArch need a spec and are named
// "ARCH.suffix", those of kVocabulary need a vocabulary that quern interprets.
enum class Part : uint8_t { kGeneral, kMetadata, kArch, kVocabulary };

// One row per key that quern writes, in the order in which it writes them; the row of kMetadata is
// the place of everything that is not interpreted.
struct KeyRow {
  Part part;
  std::string_view key;
  Value (*get)(const Manifest& manifest);
};
#define QUERN_SPEC(expression)     \
  [](const Manifest& m) -> Value { \
    const ModelSpec& s = *m.spec;  \
    return expression;             \
  }
#define QUERN_VOCAB(expression)       \
  [](const Manifest& m) -> Value {    \
    const Tokenizer& t = m.tokenizer; \
    return expression;                \
  }
constexpr KeyRow kKeys[] = {
    {Part::kGeneral, "general.architecture",
     [](const Manifest& m) { return m.spec ? Value(MetadataValue::Text(m.spec->arch)) : Value(); }},
    {Part::kGeneral, "general.name", [](const Manifest& m) { return TextUnlessEmpty(m.name); }},
    {Part::kGeneral, "general.file_type", [](const Manifest& m) { return U32(m.file_type); }},
    {Part::kGeneral, "general.quantization_version",
     [](const Manifest& m) {
       return std::ranges::any_of(m.tensors, IsQuantized) ? U32(kGgufQuantizationVersion) : Value();
     }},
    {Part::kGeneral, "quern.version",
     [](const Manifest& m) { return TextUnlessEmpty(m.provenance.quern_version); }},
    {Part::kGeneral, "quern.source_format",
     [](const Manifest& m) { return TextUnlessEmpty(m.provenance.source_format); }},
    {Part::kGeneral, "quern.context_length_source",
     [](const Manifest& m) { return TextUnlessEmpty(m.provenance.context_length_source); }},
    {Part::kMetadata, "", nullptr},
    {Part::kArch, "vocab_size", QUERN_SPEC(U32(s.vocab_size))},
    {Part::kArch, "context_length", QUERN_SPEC(U32(s.context_length))},
    {Part::kArch, "embedding_length", QUERN_SPEC(U32(s.d_model))},
    {Part::kArch, "block_count", QUERN_SPEC(U32(s.n_layers))},
    {Part::kArch, "feed_forward_length", QUERN_SPEC(U32(s.d_ff))},
    {Part::kArch, "attention.head_count", QUERN_SPEC(U32(s.n_heads))},
    {Part::kArch, "attention.head_count_kv", QUERN_SPEC(U32(s.n_kv_heads))},
    {Part::kArch, "attention.layer_norm_rms_epsilon", QUERN_SPEC(MetadataValue::F32(s.norm_eps))},
    {Part::kArch, "attention.key_length",
     QUERN_SPEC(HeadDimIsApart(s) ? U32(s.head_dim) : Value())},
    {Part::kArch, "attention.value_length",
     QUERN_SPEC(HeadDimIsApart(s) ? U32(s.head_dim) : Value())},
    {Part::kArch, "rope.dimension_count", QUERN_SPEC(U32(s.head_dim))},
    {Part::kArch, "rope.freq_base", QUERN_SPEC(MetadataValue::F32(s.rope_theta))},
    {Part::kArch, "rope.scaling.type",
     QUERN_SPEC(s.rope_linear_factor ? Value(MetadataValue::Text("linear")) : Value())},
    {Part::kArch, "rope.scaling.factor",
     QUERN_SPEC(s.rope_linear_factor ? Value(MetadataValue::F32(*s.rope_linear_factor)) : Value())},
    {Part::kGeneral, "tokenizer.ggml.model", QUERN_VOCAB(TextUnlessEmpty(TokenizerModelName(t)))},
    {Part::kVocabulary, "tokenizer.ggml.pre", QUERN_VOCAB(TextUnlessEmpty(t.pre))},
    {Part::kVocabulary, "tokenizer.ggml.tokens", QUERN_VOCAB(StringArray(t.tokens))},
    {Part::kVocabulary, "tokenizer.ggml.scores",
     QUERN_VOCAB(ScalarArray(MetadataType::kFloat32, t.scores))},
    {Part::kVocabulary, "tokenizer.ggml.token_type",
     QUERN_VOCAB(ScalarArray(MetadataType::kInt32, t.types))},
    {Part::kVocabulary, "tokenizer.ggml.merges",
     QUERN_VOCAB(t.merges.empty() ? Value() : StringArray(t.merges))},
    {Part::kVocabulary, "tokenizer.ggml.bos_token_id", QUERN_VOCAB(U32(t.bos_id))},
    {Part::kVocabulary, "tokenizer.ggml.eos_token_id", QUERN_VOCAB(U32(t.eos_id))},
    {Part::kVocabulary, "tokenizer.ggml.unknown_token_id", QUERN_VOCAB(U32(t.unk_id))},
    {Part::kVocabulary, "tokenizer.ggml.padding_token_id", QUERN_VOCAB(U32(t.pad_id))},
    {Part::kVocabulary, "tokenizer.ggml.eot_token_id", QUERN_VOCAB(U32(t.eot_id))},
    {Part::kVocabulary, "tokenizer.ggml.eom_token_id", QUERN_VOCAB(U32(t.eom_id))},
    {Part::kVocabulary, "tokenizer.ggml.fim_pre_token_id", QUERN_VOCAB(U32(t.fim_prefix_id))},
    {Part::kVocabulary, "tokenizer.ggml.fim_suf_token_id", QUERN_VOCAB(U32(t.fim_suffix_id))},
    {Part::kVocabulary, "tokenizer.ggml.fim_mid_token_id", QUERN_VOCAB(U32(t.fim_middle_id))},
    {Part::kVocabulary, "tokenizer.ggml.add_bos_token", QUERN_VOCAB(Bool(t.add_bos))},
    {Part::kVocabulary, "tokenizer.ggml.add_eos_token", QUERN_VOCAB(Bool(t.add_eos))},
    {Part::kVocabulary, "tokenizer.ggml.add_space_prefix", QUERN_VOCAB(Bool(t.add_space_prefix))},
    {Part::kVocabulary, "tokenizer.chat_template", QUERN_VOCAB(TextUnlessEmpty(t.chat_template))},
};
#undef QUERN_SPEC
#undef QUERN_VOCAB

// ---- Reading keys ----

// Finds keys among those read, converts their values, and remembers which of them were interpreted.
class KeyReader {
 public:
  // Requires: `entries` outlives the reader; values may be moved out of it, keys not.
  KeyReader(std::vector<MetadataEntry>& entries, std::string_view file)
      : entries_(entries), file_(file), taken_(entries.size(), false) {
    for (size_t i = 0; i < entries.size(); ++i) by_key_.push_back(i);
    std::ranges::sort(by_key_, {}, [&](size_t i) -> std::string_view { return entries[i].key; });
  }

  // Returns the value of `key`, or null.
  MetadataValue* Find(std::string_view key) {
    const auto i = IndexOf(key);
    return i ? &entries_[*i].value : nullptr;
  }
  // Marks `key` as interpreted: it does not stay in Manifest::metadata.
  void Take(std::string_view key) {
    if (const auto i = IndexOf(key)) taken_[*i] = true;
  }
  bool IsTaken(size_t i) const { return taken_[i]; }

  Error Bad(std::string_view id, std::string_view what, std::string_view key) const {
    return DataError(id, what)
        .File(Escaped(file_, 4096))
        .Where("key " + Quoted(key))
        .Hint(kHint);
  }
  Error BadValue(std::string_view what, std::string_view key) {
    Error error = Bad("model.value", what, key);
    if (const MetadataValue* value = Find(key)) error.Found(value->ToString());
    return error;
  }
  Error BadType(std::string_view key, std::string_view expected) {
    return Bad("gguf.key-type", "value has the wrong type", key)
        .Found(NameOf(Find(key)->type))
        .Expected(expected);
  }

  // Each returns the value of a key, or nothing if the key is absent. The type must be the very one
  // that the specification names: llama.cpp takes no other either.
  std::optional<uint32_t> Uint(std::string_view key);
  std::optional<float> Float(std::string_view key);
  std::optional<bool> Bool(std::string_view key);
  std::optional<std::string> Text(std::string_view key);
  // Returns the array of that element type, or null.
  MetadataArray* Array(std::string_view key, MetadataType elem_type);

 private:
  std::optional<size_t> IndexOf(std::string_view key) const {
    const auto it = std::ranges::lower_bound(
        by_key_, key, {}, [&](size_t i) -> std::string_view { return entries_[i].key; });
    return it != by_key_.end() && entries_[*it].key == key ? std::optional(*it) : std::nullopt;
  }

  std::vector<MetadataEntry>& entries_;
  std::string_view file_;
  std::vector<size_t> by_key_;
  std::vector<bool> taken_;
};

std::optional<uint32_t> KeyReader::Uint(std::string_view key) {
  const MetadataValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != MetadataType::kUint32) throw BadType(key, "UINT32");
  return static_cast<uint32_t>(value->bits());
}

std::optional<float> KeyReader::Float(std::string_view key) {
  const MetadataValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != MetadataType::kFloat32) throw BadType(key, "FLOAT32");
  const float number = std::bit_cast<float>(static_cast<uint32_t>(value->bits()));
  if (!std::isfinite(number)) throw BadValue("value is not finite", key);
  return number;
}

std::optional<bool> KeyReader::Bool(std::string_view key) {
  const MetadataValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != MetadataType::kBool) throw BadType(key, "BOOL");
  return value->bits() != 0;
}

std::optional<std::string> KeyReader::Text(std::string_view key) {
  const MetadataValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != MetadataType::kString) throw BadType(key, "STRING");
  return value->text();
}

MetadataArray* KeyReader::Array(std::string_view key, MetadataType elem_type) {
  MetadataValue* value = Find(key);
  if (value == nullptr) return nullptr;
  if (value->type != MetadataType::kArray ||
      std::get<MetadataArray>(value->data).elem_type != elem_type) {
    throw BadType(key, fmt::format("ARRAY of {}", NameOf(elem_type)));
  }
  return &std::get<MetadataArray>(value->data);
}

// ---- The model ----

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
                .Hint(kHint));
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
        .Hint(kHint);
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

// What of the spec could be read, and otherwise why not.
struct SpecOrReason {
  std::optional<ModelSpec> spec;
  std::optional<Error> why_not;
};

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

// ---- The vocabulary ----

class TokenizerReader {
 public:
  explicit TokenizerReader(KeyReader& keys) : keys_(keys) {}

  Tokenizer Read() {
    const auto model = keys_.Text("tokenizer.ggml.model");
    if (!model || model->empty()) return {};
    Tokenizer& t = tokenizer_;
    MetadataArray* tokens = nullptr;
    if (*model == "llama" || *model == "gpt2")
      tokens = keys_.Array("tokenizer.ggml.tokens", MetadataType::kString);
    if (tokens == nullptr) {
      t.kind = Tokenizer::Kind::kOther;
      t.model_name = *model;
      return std::move(t);
    }
    t.kind = *model == "llama" ? Tokenizer::Kind::kSentencePiece : Tokenizer::Kind::kBytePair;
    t.pre = keys_.Text("tokenizer.ggml.pre").value_or("");
    t.tokens = std::move(tokens->strings);
    ReadScores();
    ReadTypes();
    if (MetadataArray* merges = keys_.Array("tokenizer.ggml.merges", MetadataType::kString)) {
      t.merges = std::move(merges->strings);
    }
    ReadIds();
    t.add_bos = keys_.Bool("tokenizer.ggml.add_bos_token");
    t.add_eos = keys_.Bool("tokenizer.ggml.add_eos_token");
    t.add_space_prefix = keys_.Bool("tokenizer.ggml.add_space_prefix");
    t.chat_template = keys_.Text("tokenizer.chat_template").value_or("");
    for (const KeyRow& row : kKeys) {
      if (row.part == Part::kVocabulary && !IsIgnoredId(row.key)) keys_.Take(row.key);
    }
    return std::move(t);
  }

 private:
  void CheckLength(const MetadataArray& array, std::string_view key) {
    if (array.size() == tokenizer_.tokens.size()) return;
    throw keys_.Bad("tokenizer.length", "array has not one entry per token", key)
        .Found(std::to_string(array.size()))
        .Expected(std::to_string(tokenizer_.tokens.size()));
  }

  void ReadScores() {
    constexpr std::string_view kKey = "tokenizer.ggml.scores";
    const MetadataArray* array = keys_.Array(kKey, MetadataType::kFloat32);
    if (array == nullptr) return;
    CheckLength(*array, kKey);
    tokenizer_.scores.resize(array->size());
    for (size_t i = 0; i < tokenizer_.scores.size(); ++i) {
      const float score = LoadLE<float>(&array->scalars[4 * i]);
      if (!std::isfinite(score)) {
        throw keys_.Bad("tokenizer.score", "score is not finite", kKey)
            .Found(fmt::format("{} at token {}", score, i));
      }
      tokenizer_.scores[i] = score;
    }
  }

  void ReadTypes() {
    constexpr std::string_view kKey = "tokenizer.ggml.token_type";
    const MetadataArray* array = keys_.Array(kKey, MetadataType::kInt32);
    if (array == nullptr) return;
    CheckLength(*array, kKey);
    tokenizer_.types.resize(array->size());
    for (size_t i = 0; i < tokenizer_.types.size(); ++i) {
      const int32_t type = LoadLE<int32_t>(&array->scalars[4 * i]);
      if (type < 1 || type > static_cast<int32_t>(TokenType::kByte)) {
        throw keys_.Bad("tokenizer.token-type", "unknown token type", kKey)
            .Found(fmt::format("{} at token {}", type, i))
            .Expected("1 to 6");
      }
      tokenizer_.types[i] = static_cast<TokenType>(type);
    }
  }

  void ReadIds() {
    Tokenizer& t = tokenizer_;
    ReadId("tokenizer.ggml.bos_token_id", t.bos_id);
    ReadId("tokenizer.ggml.eos_token_id", t.eos_id);
    ReadId("tokenizer.ggml.unknown_token_id", t.unk_id);
    ReadId("tokenizer.ggml.padding_token_id", t.pad_id);
    ReadId("tokenizer.ggml.eot_token_id", t.eot_id);
    ReadId("tokenizer.ggml.eom_token_id", t.eom_id);
    ReadIdWithAlias("tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id",
                    t.fim_prefix_id);
    ReadIdWithAlias("tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id",
                    t.fim_suffix_id);
    ReadIdWithAlias("tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id",
                    t.fim_middle_id);
  }

  // Ids that name no token mean "none" in files of real converters (4294967295 for -1): the key
  // stays in the metadata, uninterpreted.
  void ReadId(std::string_view key, std::optional<uint32_t>& id) {
    const auto number = keys_.Uint(key);
    if (!number) return;
    if (*number < tokenizer_.tokens.size()) {
      id = number;
    } else {
      ignored_ids_.push_back(key);
    }
  }
  // Reads the key of the name used today, or else of the older one.
  void ReadIdWithAlias(std::string_view key, std::string_view alias, std::optional<uint32_t>& id) {
    ReadId(key, id);
    if (keys_.Find(key) != nullptr || keys_.Find(alias) == nullptr) return;
    ReadId(alias, id);
    if (id) keys_.Take(alias);
  }
  bool IsIgnoredId(std::string_view key) const {
    return std::ranges::find(ignored_ids_, key) != ignored_ids_.end();
  }

  KeyReader& keys_;
  Tokenizer tokenizer_;
  std::vector<std::string_view> ignored_ids_;
};

// ---- The rest ----

constexpr std::string_view kSplitIndex = "split.no";
constexpr std::string_view kSplitParts = "split.count";
constexpr std::string_view kSplitTensors = "split.tensors.count";

// Returns the value of a key of the whole list, which must have that type; 0 if it is absent.
uint64_t SplitNumber(const std::vector<MetadataEntry>& metadata, std::string_view file,
                     std::string_view key, MetadataType type) {
  const auto it = std::ranges::find(metadata, key, &MetadataEntry::key);
  if (it == metadata.end()) return 0;
  if (it->value.type == type) return it->value.bits();
  throw DataError("gguf.key-type", "value has the wrong type")
      .File(Escaped(file, 4096))
      .Where("key " + Quoted(key))
      .Found(NameOf(it->value.type))
      .Expected(NameOf(type))
      .Hint(kHint);
}

void CheckQuantizationVersion(KeyReader& keys, const std::vector<TensorInfo>& tensors,
                              std::string_view file) {
  constexpr std::string_view kKey = "general.quantization_version";
  const auto version = keys.Uint(kKey);
  if (!version || *version == kGgufQuantizationVersion ||
      std::ranges::none_of(tensors, IsQuantized))
    return;
  throw UnsupportedError("gguf.quantization-version", "tensors are quantized in an unknown way")
      .File(Escaped(file, 4096))
      .Where("key " + Quoted(kKey))
      .Found(std::to_string(*version))
      .Expected(std::to_string(kGgufQuantizationVersion))
      .Hint("quantize the original checkpoint anew");
}

void TakeArchKeys(KeyReader& keys, const ModelSpec& spec) {
  for (const KeyRow& row : kKeys) {
    if (row.part == Part::kArch) keys.Take(spec.arch + "." + std::string(row.key));
  }
  keys.Take(spec.arch + ".rope.scale_linear");
}

}  // namespace

std::string TensorName(TensorRole role, std::optional<uint32_t> layer) {
  const NameRow& row = RowOf(role);
  QUERN_CHECK(row.per_layer == layer.has_value());
  return row.per_layer ? fmt::format("{}{}.{}{}", kLayerPrefix, *layer, row.stem, kWeightSuffix)
                       : fmt::format("{}{}", row.stem, kWeightSuffix);
}

bool IsPerLayer(TensorRole role) { return role != TensorRole::kOther && RowOf(role).per_layer; }

TensorRoleAndLayer ParseTensorName(std::string_view name) {
  if (!name.ends_with(kWeightSuffix)) return {};
  name.remove_suffix(kWeightSuffix.size());
  std::optional<uint32_t> layer;
  if (name.starts_with(kLayerPrefix)) {
    name.remove_prefix(kLayerPrefix.size());
    const size_t dot = name.find('.');
    layer = ParseLayer(name.substr(0, dot));
    if (!layer || dot == std::string_view::npos) return {};
    name.remove_prefix(dot + 1);
  }
  for (const NameRow& row : kNames) {
    if (row.stem == name && row.per_layer == layer.has_value()) return {row.role, layer};
  }
  return {};
}

Manifest ManifestFromGguf(std::vector<MetadataEntry> metadata, std::vector<TensorInfo> tensors,
                          std::string_view file) {
  Manifest manifest;
  for (TensorInfo& tensor : tensors) {
    const auto [role, layer] = ParseTensorName(tensor.name);
    tensor.role = role;
    tensor.layer = layer;
  }
  KeyReader keys(metadata, file);
  manifest.name = keys.Text("general.name").value_or("");
  manifest.file_type = keys.Uint("general.file_type");
  manifest.provenance.quern_version = keys.Text("quern.version").value_or("");
  manifest.provenance.source_format = keys.Text("quern.source_format").value_or("");
  manifest.provenance.context_length_source = keys.Text("quern.context_length_source").value_or("");
  CheckQuantizationVersion(keys, tensors, file);
  manifest.tokenizer = TokenizerReader(keys).Read();
  manifest.spec = ReadSpec(keys, file, tensors, manifest.tokenizer.tokens.size()).spec;
  if (manifest.spec) TakeArchKeys(keys, *manifest.spec);
  for (const KeyRow& row : kKeys) {
    const bool stays = row.key == "general.architecture" && !manifest.spec;
    if (row.part == Part::kGeneral && !stays) keys.Take(row.key);
  }
  // Properties of the file, not of the model.
  if (const MetadataValue* value = keys.Find(kGgufTrailerKey)) {
    if (value->type != MetadataType::kUint64) throw keys.BadType(kGgufTrailerKey, "UINT64");
  }
  for (const auto key :
       {kGgufAlignmentKey, kGgufTrailerKey, kSplitIndex, kSplitParts, kSplitTensors}) {
    keys.Take(key);
  }
  // In place: a second list would double the memory of a file with many keys.
  size_t n_kept = 0;
  for (size_t i = 0; i < metadata.size(); ++i) {
    if (keys.IsTaken(i)) continue;
    if (n_kept != i) metadata[n_kept] = std::move(metadata[i]);
    ++n_kept;
  }
  metadata.resize(n_kept);
  manifest.metadata = std::move(metadata);
  manifest.tensors = std::move(tensors);
  return manifest;
}

std::optional<GgufSplit> SplitOf(const std::vector<MetadataEntry>& metadata,
                                 std::string_view file) {
  const uint64_t index = SplitNumber(metadata, file, kSplitIndex, MetadataType::kUint16);
  const uint64_t n_parts = SplitNumber(metadata, file, kSplitParts, MetadataType::kUint16);
  const uint64_t n_tensors = SplitNumber(metadata, file, kSplitTensors, MetadataType::kInt32);
  if (n_parts <= 1) return std::nullopt;
  if (index >= n_parts || n_tensors > kGgufMaxTensors) {
    throw DataError("gguf.split", "keys of a split model contradict each other")
        .File(Escaped(file, 4096))
        .Found(fmt::format("part {} of {} with {} tensors", index, n_parts,
                           static_cast<int64_t>(n_tensors)))
        .Hint(kHint);
  }
  return GgufSplit{static_cast<uint32_t>(index), static_cast<uint32_t>(n_parts),
                   static_cast<uint32_t>(n_tensors)};
}

std::vector<MetadataEntry> MetadataFromManifest(const Manifest& manifest) {
  std::vector<MetadataEntry> metadata;
  for (const KeyRow& row : kKeys) {
    if (row.part == Part::kMetadata) {
      metadata.insert(metadata.end(), manifest.metadata.begin(), manifest.metadata.end());
      continue;
    }
    if (row.part == Part::kArch && !manifest.spec) continue;
    if (row.part == Part::kVocabulary && !HasVocabulary(manifest.tokenizer)) continue;
    auto value = row.get(manifest);
    if (!value) continue;
    const std::string prefix = row.part == Part::kArch ? manifest.spec->arch + "." : "";
    metadata.push_back({prefix + std::string(row.key), std::move(*value)});
  }
  QUERN_CHECK(!FirstDuplicate(metadata.size(),
                              [&](size_t i) -> std::string_view { return metadata[i].key; }));
  return metadata;
}

const ModelSpec& RequireSpec(const Manifest& manifest, std::string_view file) {
  if (manifest.spec) return *manifest.spec;
  // What could not be interpreted is in the metadata, so that the reason can be found again.
  std::vector<MetadataEntry> metadata = manifest.metadata;
  KeyReader keys(metadata, file);
  throw *ReadSpec(keys, file, manifest.tensors, manifest.tokenizer.tokens.size()).why_not;
}

}  // namespace quern
