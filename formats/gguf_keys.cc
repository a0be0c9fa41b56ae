#include "formats/gguf_keys.h"

#include <algorithm>
#include <cstring>

#include "formats/core/check.h"
#include "formats/duplicates.h"
#include "formats/gguf_format.h"
#include "formats/gguf_metadata.h"

namespace quern {
namespace {

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
constexpr GgufKey kKeys[] = {
    {GgufPart::kGeneral, "general.architecture",
     [](const Manifest& m) { return m.spec ? Value(MetadataValue::Text(m.spec->arch)) : Value(); }},
    {GgufPart::kGeneral, "general.name", [](const Manifest& m) { return TextUnlessEmpty(m.name); }},
    {GgufPart::kGeneral, "general.file_type", [](const Manifest& m) { return U32(m.file_type); }},
    {GgufPart::kGeneral, "general.quantization_version",
     [](const Manifest& m) {
       return std::ranges::any_of(m.tensors, IsQuantized) ? U32(kGgufQuantizationVersion) : Value();
     }},
    {GgufPart::kGeneral, kGgufAlignmentKey,
     [](const Manifest& m) {
       return m.alignment == kGgufAlignment ? Value() : U32(m.alignment);
     }},
    {GgufPart::kGeneral, "quern.version",
     [](const Manifest& m) { return TextUnlessEmpty(m.provenance.quern_version); }},
    {GgufPart::kGeneral, "quern.source_format",
     [](const Manifest& m) { return TextUnlessEmpty(m.provenance.source_format); }},
    {GgufPart::kGeneral, "quern.context_length_source",
     [](const Manifest& m) { return TextUnlessEmpty(m.provenance.context_length_source); }},
    {GgufPart::kMetadata, "", nullptr},
    {GgufPart::kArch, "vocab_size", QUERN_SPEC(U32(s.vocab_size))},
    {GgufPart::kArch, "context_length", QUERN_SPEC(U32(s.context_length))},
    {GgufPart::kArch, "embedding_length", QUERN_SPEC(U32(s.d_model))},
    {GgufPart::kArch, "block_count", QUERN_SPEC(U32(s.n_layers))},
    {GgufPart::kArch, "feed_forward_length", QUERN_SPEC(U32(s.d_ff))},
    {GgufPart::kArch, "attention.head_count", QUERN_SPEC(U32(s.n_heads))},
    {GgufPart::kArch, "attention.head_count_kv", QUERN_SPEC(U32(s.n_kv_heads))},
    {GgufPart::kArch, "attention.layer_norm_rms_epsilon", QUERN_SPEC(MetadataValue::F32(s.norm_eps))},
    {GgufPart::kArch, "attention.key_length",
     QUERN_SPEC(HeadDimIsApart(s) ? U32(s.head_dim) : Value())},
    {GgufPart::kArch, "attention.value_length",
     QUERN_SPEC(HeadDimIsApart(s) ? U32(s.head_dim) : Value())},
    {GgufPart::kArch, "rope.dimension_count", QUERN_SPEC(U32(s.head_dim))},
    {GgufPart::kArch, "rope.freq_base", QUERN_SPEC(MetadataValue::F32(s.rope_theta))},
    {GgufPart::kArch, "rope.scaling.type",
     QUERN_SPEC(s.rope_linear_factor ? Value(MetadataValue::Text("linear")) : Value())},
    {GgufPart::kArch, "rope.scaling.factor",
     QUERN_SPEC(s.rope_linear_factor ? Value(MetadataValue::F32(*s.rope_linear_factor)) : Value())},
    {GgufPart::kGeneral, "tokenizer.ggml.model", QUERN_VOCAB(TextUnlessEmpty(TokenizerModelName(t)))},
    {GgufPart::kVocabulary, "tokenizer.ggml.pre", QUERN_VOCAB(TextUnlessEmpty(t.pre))},
    {GgufPart::kVocabulary, "tokenizer.ggml.tokens", QUERN_VOCAB(StringArray(t.tokens))},
    {GgufPart::kVocabulary, "tokenizer.ggml.scores",
     QUERN_VOCAB(ScalarArray(MetadataType::kFloat32, t.scores))},
    {GgufPart::kVocabulary, "tokenizer.ggml.token_type",
     QUERN_VOCAB(ScalarArray(MetadataType::kInt32, t.types))},
    {GgufPart::kVocabulary, "tokenizer.ggml.merges",
     QUERN_VOCAB(t.merges.empty() ? Value() : StringArray(t.merges))},
    {GgufPart::kVocabulary, "tokenizer.ggml.bos_token_id", QUERN_VOCAB(U32(t.bos_id))},
    {GgufPart::kVocabulary, "tokenizer.ggml.eos_token_id", QUERN_VOCAB(U32(t.eos_id))},
    {GgufPart::kVocabulary, "tokenizer.ggml.unknown_token_id", QUERN_VOCAB(U32(t.unk_id))},
    {GgufPart::kVocabulary, "tokenizer.ggml.padding_token_id", QUERN_VOCAB(U32(t.pad_id))},
    {GgufPart::kVocabulary, "tokenizer.ggml.eot_token_id", QUERN_VOCAB(U32(t.eot_id))},
    {GgufPart::kVocabulary, "tokenizer.ggml.eom_token_id", QUERN_VOCAB(U32(t.eom_id))},
    {GgufPart::kVocabulary, "tokenizer.ggml.fim_pre_token_id", QUERN_VOCAB(U32(t.fim_prefix_id))},
    {GgufPart::kVocabulary, "tokenizer.ggml.fim_suf_token_id", QUERN_VOCAB(U32(t.fim_suffix_id))},
    {GgufPart::kVocabulary, "tokenizer.ggml.fim_mid_token_id", QUERN_VOCAB(U32(t.fim_middle_id))},
    {GgufPart::kVocabulary, "tokenizer.ggml.add_bos_token", QUERN_VOCAB(Bool(t.add_bos))},
    {GgufPart::kVocabulary, "tokenizer.ggml.add_eos_token", QUERN_VOCAB(Bool(t.add_eos))},
    {GgufPart::kVocabulary, "tokenizer.ggml.add_space_prefix", QUERN_VOCAB(Bool(t.add_space_prefix))},
    {GgufPart::kVocabulary, "tokenizer.chat_template", QUERN_VOCAB(TextUnlessEmpty(t.chat_template))},
};
#undef QUERN_SPEC
#undef QUERN_VOCAB

}  // namespace

std::span<const GgufKey> AllGgufKeys() { return kKeys; }

std::vector<MetadataEntry> MetadataFromManifest(const Manifest& manifest) {
  std::vector<MetadataEntry> metadata;
  for (const GgufKey& row : kKeys) {
    if (row.part == GgufPart::kMetadata) {
      metadata.insert(metadata.end(), manifest.metadata.begin(), manifest.metadata.end());
      continue;
    }
    if (row.part == GgufPart::kArch && !manifest.spec) continue;
    if (row.part == GgufPart::kVocabulary && !HasVocabulary(manifest.tokenizer)) continue;
    auto value = row.get(manifest);
    if (!value) continue;
    const std::string prefix = row.part == GgufPart::kArch ? manifest.spec->arch + "." : "";
    metadata.push_back({prefix + std::string(row.key), std::move(*value)});
  }
  QUERN_CHECK(!FirstDuplicate(metadata.size(),
                              [&](size_t i) -> std::string_view { return metadata[i].key; }));
  return metadata;
}

}  // namespace quern
