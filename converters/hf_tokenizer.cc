#include "converters/hf_tokenizer.h"

#include <charconv>
#include <utility>

#include "converters/hf_config.h"
#include "converters/tokenizer_import.h"
#include "converters/tokenizer_json.h"
#include "formats/core/error.h"
#include "formats/json_limits.h"
#include "formats/sentencepiece_model.h"

namespace quern {
namespace {

JsonValue ParseObject(const TextFile& file) {
  JsonValue root = ParseJson(file.text, file.path);
  if (!root.is_object()) {
    throw DataError("config.value", "not an object")
        .File(file.path)
        .Found(root.ToString())
        .Expected("an object");
  }
  return root;
}

// added_tokens.json: {text: id}.
void ReadPlainAddedTokens(const TextFile& file, AddedTokens& added) {
  const JsonValue root = ParseObject(file);
  for (const auto& [text, id] : root.items()) {
    if (id.kind() != JsonValue::Kind::kUint || id.Uint() > UINT32_MAX) {
      ThrowConfigValue(file.path, Escaped(text), id.ToString(), "the id of a token");
    }
    added[static_cast<uint32_t>(id.Uint())] = {std::string(text), false};
  }
}

// tokenizer_config.json: {"added_tokens_decoder": {"32000": {"content": "[PAD]", "special":
// true}}}.
void ReadAddedTokensDecoder(const TextFile& file, const JsonValue& config, AddedTokens& added) {
  const auto decoder = config.Find("added_tokens_decoder");
  if (!decoder || decoder->kind() == JsonValue::Kind::kNull) return;
  if (!decoder->is_object()) {
    ThrowConfigValue(file.path, "added_tokens_decoder", decoder->ToString(), "an object");
  }
  for (const auto& [key, token] : decoder->items()) {
    uint32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || !token.is_object()) {
      ThrowConfigValue(file.path, "added_tokens_decoder", Quoted(key), "ids and their tokens");
    }
    const auto content = OptionalString(token, "content", file.path);
    if (!content)
      ThrowConfigValue(file.path, "content", "nothing", "the text of token " + Escaped(key));
    added[id] = {*content, OptionalBool(token, "special", file.path).value_or(false)};
  }
}

// A special token is a text, or an object with its text; "" and null stand for none.
std::string SpecialText(const JsonValue& config, std::string_view key, std::string_view file) {
  const auto value = config.Find(key);
  if (!value || value->kind() == JsonValue::Kind::kNull) return "";
  if (value->is_object()) return OptionalString(*value, "content", file).value_or("");
  if (!value->is_string()) ThrowConfigValue(file, key, value->ToString(), "the text of a token");
  return std::string(value->String());
}

std::optional<uint32_t> IdOf(const Tokenizer& tokenizer, std::string_view text) {
  for (size_t id = 0; id < tokenizer.tokens.size(); ++id) {
    if (tokenizer.tokens[id] == text) return static_cast<uint32_t>(id);
  }
  return std::nullopt;
}

struct SpecialTokens {
  std::optional<uint32_t> bos, eos, unk, pad;
};

// Adds what the file says and what is not known yet. Texts that are no tokens name nothing: the
// first conversions of LLaMA 1 have some.
void ReadSpecialTokens(const JsonValue& config, const std::string& file, const Tokenizer& tokenizer,
                       SpecialTokens& special) {
  const std::pair<std::string_view, std::optional<uint32_t>*> rows[] = {
      {"bos_token", &special.bos},
      {"eos_token", &special.eos},
      {"unk_token", &special.unk},
      {"pad_token", &special.pad}};
  for (const auto& [key, id] : rows) {
    const std::string text = SpecialText(config, key, file);
    if (!*id && !text.empty()) *id = IdOf(tokenizer, text);
  }
}

// The template of tokenizer_config.json: a text, or a list of named ones.
std::string ChatTemplateOf(const JsonValue& config, const std::string& file) {
  const auto value = config.Find("chat_template");
  if (!value || value->kind() == JsonValue::Kind::kNull) return "";
  if (value->is_string()) return std::string(value->String());
  if (!value->is_array()) {
    ThrowConfigValue(file, "chat_template", value->ToString(), "a text, or a list of templates");
  }
  for (const auto& item : value->items()) {
    if (!item.value.is_object() || OptionalString(item.value, "name", file) != "default") continue;
    return OptionalString(item.value, "template", file).value_or("");
  }
  return "";
}

void Override(std::optional<uint32_t>& id, const std::optional<uint32_t>& by) {
  if (by) id = by;
}
void FillIn(std::optional<uint32_t>& id, const std::optional<uint32_t>& by, size_t n_tokens) {
  if (!id && by && *by < n_tokens) id = by;
}

Tokenizer ReadVocabulary(const HfTokenizerFiles& files, const std::string& folder) {
  const auto& model = files.tokenizer_model;
  if (model && (!files.tokenizer_json || LooksLikeSentencePiece(AsBytes(model->text)))) {
    return ReadMetaTokenizer(AsBytes(model->text), model->path, TiktokenNames::kLlama31);
  }
  if (files.tokenizer_json) {
    return ReadTokenizerJson(files.tokenizer_json->text, files.tokenizer_json->path);
  }
  throw DataError("hf.tokenizer-missing", "no vocabulary")
      .File(folder)
      .Expected("tokenizer.model or tokenizer.json beside the weights")
      .Hint("copy it from the release that the model was trained from");
}

}  // namespace

Tokenizer ReadHfTokenizer(const HfTokenizerFiles& files, const std::string& folder) {
  Tokenizer tokenizer = ReadVocabulary(files, folder);

  AddedTokens added;
  std::string added_file = folder;
  if (files.added_tokens) {
    ReadPlainAddedTokens(*files.added_tokens, added);
    added_file = files.added_tokens->path;
  }
  if (files.tokenizer_json) {
    for (auto& [id, token] :
         ReadAddedTokens(files.tokenizer_json->text, files.tokenizer_json->path)) {
      added[id] = std::move(token);
      added_file = files.tokenizer_json->path;
    }
  }
  std::optional<JsonValue> config;
  if (files.tokenizer_config) {
    config = ParseObject(*files.tokenizer_config);
    ReadAddedTokensDecoder(*files.tokenizer_config, *config, added);
    if (config->Find("added_tokens_decoder")) added_file = files.tokenizer_config->path;
  }
  PutAddedTokens(added, added_file, tokenizer);

  SpecialTokens special;
  if (config) {
    const std::string& path = files.tokenizer_config->path;
    ReadSpecialTokens(*config, path, tokenizer, special);
    if (const auto add = OptionalBool(*config, "add_bos_token", path)) tokenizer.add_bos = add;
    if (const auto add = OptionalBool(*config, "add_eos_token", path)) {
      if (*add || tokenizer.add_eos) tokenizer.add_eos = add;
    }
    tokenizer.chat_template = ChatTemplateOf(*config, path);
  }
  if (files.special_tokens_map) {
    ReadSpecialTokens(ParseObject(*files.special_tokens_map), files.special_tokens_map->path,
                      tokenizer, special);
  }
  Override(tokenizer.bos_id, special.bos);
  Override(tokenizer.eos_id, special.eos);
  Override(tokenizer.unk_id, special.unk);
  Override(tokenizer.pad_id, special.pad);
  for (const auto* file : {&files.generation_config, &files.config}) {
    if (!*file) continue;
    const HfTokenIds ids = ParseHfTokenIds((*file)->text, (*file)->path);
    FillIn(tokenizer.bos_id, ids.bos, tokenizer.tokens.size());
    FillIn(tokenizer.eos_id, ids.eos, tokenizer.tokens.size());
    FillIn(tokenizer.pad_id, ids.pad, tokenizer.tokens.size());
  }
  if (tokenizer.kind == Tokenizer::Kind::kBytePair) {
    if (!tokenizer.eot_id) tokenizer.eot_id = IdOf(tokenizer, "<|eot_id|>");
    if (!tokenizer.eom_id) tokenizer.eom_id = IdOf(tokenizer, "<|eom_id|>");
  } else {
    FindInfillTokens(tokenizer);
  }
  if (files.chat_template) tokenizer.chat_template = files.chat_template->text;
  return tokenizer;
}

}  // namespace quern
