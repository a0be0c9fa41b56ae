#include "converters/hf_tokenizer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "converters/hf_config.h"
#include "converters/tokenizer_import.h"
#include "converters/tokenizer_json.h"
#include "formats/core/error.h"
#include "formats/core/name_list.h"
#include "formats/json_limits.h"
#include "formats/sentencepiece_model.h"
#include "formats/text_index.h"

namespace quern {
namespace {

JsonValue ParseObject(const TextFile& file) { return ParseJsonObject(file.text, file.path); }

// added_tokens.json: {text: id}.
AddedTokens ReadPlainAddedTokens(const TextFile& file) {
  AddedTokens added;
  const JsonValue root = ParseObject(file);
  for (const auto& [text, id] : root.items()) {
    if (id.kind() != JsonValue::Kind::kUint || id.Uint() > UINT32_MAX) {
      ThrowConfigValue(file.path, text, id.ToString(), "the id of a token");
    }
    added.Add({static_cast<uint32_t>(id.Uint()), false, std::string(text)});
  }
  return added;
}

// tokenizer_config.json: {"added_tokens_decoder": {"32000": {"content": "[PAD]", "special":
// true}}}.
AddedTokens ReadAddedTokensDecoder(const std::string& path, const JsonValue& config) {
  AddedTokens added;
  const auto decoder = config.Find("added_tokens_decoder");
  if (!decoder || decoder->kind() == JsonValue::Kind::kNull) return added;
  if (!decoder->is_object()) {
    ThrowConfigValue(path, "added_tokens_decoder", decoder->ToString(), "an object");
  }
  for (const auto& [key, token] : decoder->items()) {
    uint32_t id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || !token.is_object()) {
      ThrowConfigValue(path, "added_tokens_decoder", Quoted(key), "ids and their tokens");
    }
    auto content = OptionalString(token, "content", path);
    if (!content) ThrowConfigValue(path, "content", "nothing", "the text of token " + Escaped(key));
    added.Add({id, OptionalBool(token, "special", path).value_or(false), std::move(*content)});
  }
  return added;
}

// A special token is a text, or an object with its text; "" and null stand for none.
std::string SpecialText(const JsonValue& value, std::string_view key, std::string_view file) {
  if (value.kind() == JsonValue::Kind::kNull) return "";
  if (value.is_object()) return OptionalString(value, "content", file).value_or("");
  if (!value.is_string()) ThrowConfigValue(file, key, value.ToString(), "the text of a token");
  return std::string(value.String());
}

using Id = std::optional<uint32_t>;

// Chooses the special tokens of a vocabulary among what the side files say. Each Propose counts only
// for what is still open, so the order of the calls is that of the files.
class SpecialTokens {
 public:
  SpecialTokens(Tokenizer& tokenizer, Faults& faults)
      : tokenizer_(tokenizer), faults_(faults), index_(tokenizer.tokens) {}

  // A tokenizer_config.json or special_tokens_map.json. Texts that are no tokens name nothing: the
  // first conversions of LLaMA 1 have some.
  void ProposeTexts(const JsonValue& config, const std::string& file);
  // A generation_config.json or config.json.
  void ProposeIds(const HfTokenIds& ids, const std::string& file);
  // Sets what was proposed.
  void Apply();
  // Ends of generation beyond the first one: of a turn, then of a message, where nothing else is
  // known. Those that remain have no place in a GGUF.
  void AddEnds(const std::vector<uint32_t>& ends);

  Id Find(std::string_view text) const { return index_.Find(text); }

 private:
  struct Kind {
    std::string_view name;  // as in "bos_token", "bos_token_id"
    Id Tokenizer::*own;     // of the vocabulary
    Id proposed;
  };
  void Propose(Kind& kind, const Id& id, const std::string& key, const std::string& file);

  Tokenizer& tokenizer_;
  Faults& faults_;
  TextIndex<StringList> index_;
  std::array<Kind, 4> kinds_ = {{{"bos", &Tokenizer::bos_id, {}},
                                 {"eos", &Tokenizer::eos_id, {}},
                                 {"unk", &Tokenizer::unk_id, {}},
                                 {"pad", &Tokenizer::pad_id, {}}}};
};

void SpecialTokens::Propose(Kind& kind, const Id& id, const std::string& key,
                            const std::string& file) {
  if (!id) return;
  const auto skip = [&](std::string_view what, const std::string& expected) {
    faults_.Warn(DataError("hf.special-token", what)
                     .File(file)
                     .Where("key " + Quoted(key))
                     .Found("token " + std::to_string(*id))
                     .Expected(expected));
  };
  if (*id >= tokenizer_.tokens.size()) {
    return skip("a special token is not in the vocabulary and is left out",
                "one of " + std::to_string(tokenizer_.tokens.size()));
  }
  // Many old folders call the end the beginning, or count from the beginning as 0; the vocabulary
  // was trained with its own. (A token that pads may be any.)
  const Id& own = tokenizer_.*kind.own;
  for (const Kind& other : kinds_) {
    const bool is_other = kind.name != "pad" && other.name != "pad" && other.name != kind.name &&
                          own && own != id && tokenizer_.*other.own == id;
    if (!is_other) continue;
    return skip("a special token contradicts the vocabulary and is left out",
                std::to_string(*own) + "; " + std::to_string(*id) + " is its " +
                    std::string(other.name));
  }
  if (!kind.proposed) kind.proposed = id;
}

void SpecialTokens::ProposeTexts(const JsonValue& config, const std::string& file) {
  for (Kind& kind : kinds_) {
    const std::string key = std::string(kind.name) + "_token";
    const auto value = config.Find(key);
    const std::string text = value ? SpecialText(*value, key, file) : "";
    if (!text.empty()) Propose(kind, Find(text), key, file);
  }
  // A token that has a name is no text, though the file that added it does not say so.
  const auto make_control = [&](const JsonValue& value, std::string_view key) {
    const Id id = Find(SpecialText(value, key, file));
    if (id && tokenizer_.types[*id] == TokenType::kUserDefined) {
      tokenizer_.types[*id] = TokenType::kControl;
    }
  };
  for (const std::string_view key : {"bos_token", "eos_token", "unk_token", "pad_token",
                                     "sep_token", "cls_token", "mask_token"}) {
    if (const auto value = config.Find(key)) make_control(*value, key);
  }
  for (const std::string_view key : {"additional_special_tokens", "extra_special_tokens"}) {
    const auto further = config.Find(key);
    if (!further || !(further->is_array() || further->is_object())) continue;
    for (const auto& item : further->items()) make_control(item.value, key);
  }
}

void SpecialTokens::ProposeIds(const HfTokenIds& ids, const std::string& file) {
  const Id eos = ids.eos.empty() ? Id() : ids.eos.front();
  for (Kind& kind : kinds_) {
    const Id id = kind.name == "bos"   ? ids.bos
                  : kind.name == "eos" ? eos
                  : kind.name == "pad" ? ids.pad
                                       : Id();
    Propose(kind, id, std::string(kind.name) + "_token_id", file);
  }
}

void SpecialTokens::Apply() {
  for (const Kind& kind : kinds_) {
    if (kind.proposed) tokenizer_.*kind.own = kind.proposed;
  }
  // A tokenizer.json need not say which of its control tokens stands for unknown text.
  const bool is_spm = tokenizer_.kind == Tokenizer::Kind::kSentencePiece;
  auto& types = tokenizer_.types;
  if (is_spm && tokenizer_.unk_id &&
      std::ranges::find(types, TokenType::kUnknown) == types.end()) {
    types[*tokenizer_.unk_id] = TokenType::kUnknown;
  }
}

void SpecialTokens::AddEnds(const std::vector<uint32_t>& ends) {
  for (const uint32_t end : ends) {
    if (end >= tokenizer_.tokens.size()) continue;
    const Id id = end;
    const Id known[] = {tokenizer_.bos_id, tokenizer_.unk_id, tokenizer_.eos_id,
                        tokenizer_.eot_id, tokenizer_.eom_id};
    if (std::ranges::find(known, id) != std::end(known)) continue;
    Id& place = tokenizer_.eot_id ? tokenizer_.eom_id : tokenizer_.eot_id;
    if (!place) place = id;
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

// The vocabulary itself, and what its file says beside it.
struct Vocabulary {
  HfTokenizer result;
  AddedTokens added;
  TextTemplate text_template;
};

Vocabulary ReadVocabulary(HfTokenizerFiles& files, const std::string& folder) {
  Vocabulary vocabulary;
  HfTokenizer& result = vocabulary.result;
  result.max_padding = kMaxPaddingTokens;
  std::optional<TextFile>&model = files.tokenizer_model, &json = files.tokenizer_json;
  if (model && (!json || LooksLikeSentencePiece(AsBytes(model->text)))) {
    result.file = model->path;
    result.tokenizer =
        ReadMetaTokenizer(AsBytes(model->text), model->path, TiktokenNames::kLlama31);
    const bool is_tiktoken = result.tokenizer.kind == Tokenizer::Kind::kBytePair;
    if (is_tiktoken) result.max_padding = kMaxTiktokenPadding;
    if (json) vocabulary.added = ReadAddedTokens(json->text, json->path);
  } else if (json) {
    TokenizerJson parts = ParseTokenizerJson(json->text, json->path);
    result.file = json->path;
    result.tokenizer = std::move(parts.tokenizer);
    vocabulary.added = std::move(parts.added);
    vocabulary.text_template = std::move(parts.text_template);
  } else {
    throw DataError("hf.tokenizer-missing", "no vocabulary")
        .File(folder)
        .Expected("tokenizer.model or tokenizer.json beside the weights")
        .Hint("copy it from the release that the model was trained from");
  }
  result.n_own_tokens = result.tokenizer.tokens.size();
  // The largest of the files; what they say was taken out of them.
  model.reset();
  json.reset();
  return vocabulary;
}

}  // namespace

HfTokenizer ReadHfTokenizer(HfTokenizerFiles files, const std::string& folder, Faults& faults) {
  AddedTokens added;
  std::string added_file = folder;
  if (files.added_tokens) {
    added = ReadPlainAddedTokens(*files.added_tokens);
    added_file = files.added_tokens->path;
  }
  if (files.tokenizer_json) added_file = files.tokenizer_json->path;
  Vocabulary vocabulary = ReadVocabulary(files, folder);
  HfTokenizer& result = vocabulary.result;
  Tokenizer& tokenizer = result.tokenizer;
  added.Append(std::move(vocabulary.added));
  std::optional<JsonValue> config;
  if (files.tokenizer_config) {
    config = ParseObject(*files.tokenizer_config);
    AddedTokens more = ReadAddedTokensDecoder(files.tokenizer_config->path, *config);
    if (!more.empty()) added_file = files.tokenizer_config->path;
    added.Append(std::move(more));
  }
  PutAddedTokens(std::move(added), added_file, tokenizer);
  SetTemplate(vocabulary.text_template, result.file, tokenizer);

  SpecialTokens special(tokenizer, faults);
  if (config) {
    const std::string& path = files.tokenizer_config->path;
    special.ProposeTexts(*config, path);
    if (const auto add = OptionalBool(*config, "add_bos_token", path)) tokenizer.add_bos = add;
    if (const auto add = OptionalBool(*config, "add_eos_token", path)) {
      if (*add || tokenizer.add_eos) tokenizer.add_eos = add;
    }
    tokenizer.chat_template = ChatTemplateOf(*config, path);
  }
  if (files.special_tokens_map) {
    special.ProposeTexts(ParseObject(*files.special_tokens_map), files.special_tokens_map->path);
  }
  std::vector<uint32_t> ends;
  if (const auto& file = files.generation_config) {
    HfTokenIds ids = ParseHfTokenIds(file->text, file->path);
    // A copy of config.json says nothing that config.json does not.
    if (!ids.is_copy) special.ProposeIds(ids, file->path);
    if (!ids.is_copy) ends = std::move(ids.eos);
  }
  if (const auto& file = files.config) {
    HfTokenIds ids = ParseHfTokenIds(file->text, file->path);
    special.ProposeIds(ids, file->path);
    if (ends.empty()) ends = std::move(ids.eos);
  }
  special.Apply();
  if (tokenizer.kind == Tokenizer::Kind::kBytePair) {
    if (!tokenizer.eot_id) tokenizer.eot_id = special.Find("<|eot_id|>");
    if (!tokenizer.eom_id) tokenizer.eom_id = special.Find("<|eom_id|>");
  } else {
    FindInfillTokens(tokenizer);
  }
  special.AddEnds(ends);
  // Readers that are told to put a token first, and not which, take their own default.
  if (!tokenizer.bos_id && tokenizer.add_bos) tokenizer.add_bos = false;
  if (!tokenizer.eos_id && tokenizer.add_eos) tokenizer.add_eos = false;
  if (files.chat_template) tokenizer.chat_template = files.chat_template->text;
  return std::move(result);
}

void FitHfTokenizer(HfTokenizer& vocabulary, uint64_t n_rows, Faults& faults) {
  Tokenizer& t = vocabulary.tokenizer;
  if (t.tokens.size() > n_rows && vocabulary.n_own_tokens <= n_rows) {
    NameList dropped;
    StringList kept;
    for (size_t id = 0; id < t.tokens.size(); ++id) {
      if (id < n_rows) {
        kept.push_back(t.tokens[id]);
      } else {
        dropped.Add(t.tokens[id]);
      }
    }
    t.tokens = std::move(kept);
    t.types.resize(n_rows);
    if (!t.scores.empty()) t.scores.resize(n_rows);
    for (Id* id : {&t.bos_id, &t.eos_id, &t.unk_id, &t.pad_id, &t.eot_id, &t.eom_id,
                   &t.fim_prefix_id, &t.fim_suffix_id, &t.fim_middle_id}) {
      if (*id && **id >= n_rows) id->reset();
    }
    faults.Warn(DataError("tokenizer.added-without-row",
                          "added tokens stand behind the embedding's last row and are left out")
                    .File(vocabulary.file)
                    .Found(dropped.ToString())
                    .Expected("ids below " + std::to_string(n_rows)));
  }
  PadTokenizer(t, n_rows, vocabulary.max_padding, vocabulary.file, faults);
}

}  // namespace quern
