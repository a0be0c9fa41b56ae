#include "formats/gguf_vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "formats/core/bytes.h"
#include "formats/gguf_keys.h"

namespace quern {
namespace {

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
    for (const GgufKey& row : AllGgufKeys()) {
      if (row.part == GgufPart::kVocabulary && !IsIgnoredId(row.key)) keys_.Take(row.key);
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

}  // namespace

Tokenizer ReadGgufVocabulary(KeyReader& keys) { return TokenizerReader(keys).Read(); }

}  // namespace quern
