#include "converters/tokenizer_json.h"

#include <algorithm>
#include <array>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "formats/core/error.h"
#include "formats/json_limits.h"

namespace quern {
namespace {

constexpr uint64_t kMaxTokens = 1u << 22;
// How many ids behind the last token may be without one: vocabularies are padded for speed.
constexpr uint64_t kMaxGap = 65536;
constexpr std::string_view kSpaceMark = "▁";
constexpr float kAddedScore = -1000.0f;  // as llama.cpp's converter gives them
constexpr float kPaddingScore = -10000.0f;
constexpr float kSpaceRunScore = -1e9f;  // of Llama's pieces that are made of spaces only

// Cuts text as Llama 3 does; the name is llama.cpp's.
constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Error Unsupported(std::string_view id, std::string_view what, std::string_view file,
                  std::string_view key, std::string_view found) {
  return UnsupportedError(id, what)
      .File(file)
      .Where("key " + Quoted(key))
      .Found(found)
      .Hint("give the tokenizer.model of the same release, if it has one");
}

JsonValue ParseObject(std::string_view text, std::string_view file) {
  JsonValue root = ParseJson(text, file);
  if (!root.is_object()) {
    throw DataError("config.value", "not an object")
        .File(file)
        .Found(root.ToString())
        .Expected("the members of a tokenizer");
  }
  return root;
}

// Returns the member if it is an object; nothing if it is absent or null.
std::optional<JsonValue> Object(const JsonValue& parent, std::string_view key,
                                std::string_view file) {
  auto value = parent.Find(key);
  if (!value || value->kind() == JsonValue::Kind::kNull) return std::nullopt;
  if (!value->is_object()) ThrowConfigValue(file, key, value->ToString(), "an object");
  return value;
}

// Returns a part of the tokenizer and, where it is a Sequence, the parts in it.
std::vector<JsonValue> Steps(const JsonValue& root, std::string_view key, std::string_view member,
                             std::string_view file) {
  const auto step = Object(root, key, file);
  if (!step) return {};
  if (OptionalString(*step, "type", file) != "Sequence") return {*step};
  const auto list = step->Find(member);
  if (!list || !list->is_array()) {
    ThrowConfigValue(file, member, list ? list->ToString() : "nothing", "an array of steps");
  }
  std::vector<JsonValue> steps;
  for (const auto& item : list->items()) {
    if (!item.value.is_object()) ThrowConfigValue(file, member, item.value.ToString(), "objects");
    steps.push_back(item.value);
  }
  return steps;
}

std::string TypeOf(const JsonValue& step, std::string_view file) {
  return OptionalString(step, "type", file).value_or("");
}

AddedTokens AddedTokensOf(const JsonValue& root, std::string_view file) {
  AddedTokens added;
  const auto list = root.Find("added_tokens");
  if (!list || list->kind() == JsonValue::Kind::kNull) return added;
  if (!list->is_array()) ThrowConfigValue(file, "added_tokens", list->ToString(), "an array");
  for (const auto& item : list->items()) {
    const JsonValue& token = item.value;
    if (!token.is_object()) ThrowConfigValue(file, "added_tokens", token.ToString(), "objects");
    const auto id = static_cast<uint32_t>(RequireUint(token, "id", kMaxTokens, file));
    const auto content = OptionalString(token, "content", file);
    if (!content)
      ThrowConfigValue(file, "content", "nothing", "the text of added token " + std::to_string(id));
    added[id] = {*content, OptionalBool(token, "special", file).value_or(false)};
  }
  return added;
}

// The BPE model: its tokens by id, its merges.
class ModelReader {
 public:
  ModelReader(const JsonValue& root, const AddedTokens& added, std::string_view file)
      : file_(file), root_(root), added_(added) {
    const auto model = Object(root, "model", file);
    if (!model) ThrowConfigValue(file, "model", "nothing", "an object");
    model_ = *model;
    if (const auto type = OptionalString(*model_, "type", file); type && *type != "BPE") {
      throw Unsupported("tokenizer.algorithm", "vocabulary of a kind that is not read", file,
                        "model.type", Quoted(*type))
          .Expected("'BPE'");
    }
    for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const auto affix = OptionalString(*model_, key, file);
      if (affix && !affix->empty()) {
        throw Unsupported("tokenizer.algorithm", "vocabulary marks parts of words", file, key,
                          Quoted(*affix))
            .Expected("null");
      }
    }
    ReadVocabulary();
  }

  // Reads all but the added tokens.
  Tokenizer Read();

 private:
  void ReadVocabulary();
  void ReadSpm(Tokenizer& tokenizer) const;
  void ReadBytePair(Tokenizer& tokenizer) const;
  void SetScores(Tokenizer& tokenizer) const;
  // Calls take(left, right, index) for every merge, each half a token, joined a token.
  template <typename Take>
  void ForEachMerge(Take&& take) const;
  Error BadMerge(size_t index, std::string_view found) const {
    return DataError("tokenizer.merge", "a merge does not join two tokens to a third")
        .File(file_)
        .Where("merge " + std::to_string(index))
        .Found(Quoted(found, 60));
  }

  std::string_view file_;
  const JsonValue& root_;
  const AddedTokens& added_;
  std::optional<JsonValue> model_;
  std::vector<std::string_view> texts_;  // by id; null data where there is none
  std::unordered_map<std::string_view, uint32_t> ids_;
};

void ModelReader::ReadVocabulary() {
  const auto vocab = model_->Find("vocab");
  if (!vocab || !vocab->is_object() || vocab->size() == 0) {
    ThrowConfigValue(file_, "vocab", vocab ? vocab->ToString() : "nothing",
                     "an object of tokens and their ids");
  }
  const uint64_t max_id = std::min<uint64_t>(vocab->size() + kMaxGap, kMaxTokens);
  ids_.reserve(vocab->size());
  for (const auto& [text, id] : vocab->items()) {
    if (id.kind() != JsonValue::Kind::kUint || id.Uint() >= max_id) {
      throw DataError("tokenizer.id", "a token has an impossible id")
          .File(file_)
          .Where("token " + Quoted(text, 60))
          .Found(id.ToString())
          .Expected("a number below " + std::to_string(max_id));
    }
    if (id.Uint() >= texts_.size()) texts_.resize(id.Uint() + 1);
    std::string_view& place = texts_[id.Uint()];
    if (place.data() != nullptr) {
      throw DataError("tokenizer.id", "two tokens have one id")
          .File(file_)
          .Where("token " + Quoted(text, 60))
          .Found(id.ToString() + ", as " + Quoted(place, 60));
    }
    place = text;
    ids_.emplace(text, static_cast<uint32_t>(id.Uint()));
  }
}

template <typename Take>
void ModelReader::ForEachMerge(Take&& take) const {
  const auto merges = model_->Find("merges");
  if (!merges || !merges->is_array()) {
    ThrowConfigValue(file_, "merges", merges ? merges->ToString() : "nothing", "an array");
  }
  size_t index = 0;
  std::string joined;
  for (const auto& item : merges->items()) {
    std::string_view left, right;
    if (item.value.is_string()) {
      const std::string_view merge = item.value.String();
      const size_t space = merge.find(' ', 1);
      if (space == merge.npos)
        throw BadMerge(index, merge).Expected("two tokens and a space between");
      left = merge.substr(0, space);
      right = merge.substr(space + 1);
    } else {
      std::vector<std::string_view> halves;
      if (item.value.is_array() && item.value.size() == 2) {
        for (const auto& half : item.value.items()) {
          if (half.value.is_string()) halves.push_back(half.value.String());
        }
      }
      if (halves.size() != 2) throw BadMerge(index, item.value.ToString()).Expected("two texts");
      left = halves[0];
      right = halves[1];
    }
    joined.assign(left).append(right);
    if (!ids_.contains(left) || !ids_.contains(right) || !ids_.contains(joined)) {
      throw BadMerge(index, std::string(left) + " " + std::string(right))
          .Expected("tokens of the vocabulary");
    }
    take(left, right, index++);
  }
}

// Returns the lengths of the UTF-8 characters' beginnings inside `text`, but for 0.
std::vector<size_t> CutsOf(std::string_view text) {
  std::vector<size_t> cuts;
  for (size_t i = 1; i < text.size(); ++i) {
    if ((static_cast<uint8_t>(text[i]) & 0xc0) != 0x80) cuts.push_back(i);
  }
  return cuts;
}

bool IsByteToken(std::string_view text) {
  const auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
  return text.size() == 6 && text.starts_with("<0x") && is_digit(text[3]) && is_digit(text[4]) &&
         text.ends_with('>');
}

bool IsSpaceRun(std::string_view text) {
  while (text.starts_with(kSpaceMark)) text.remove_prefix(kSpaceMark.size());
  return text.empty();
}

// Returns `text` with a space for each '▁'.
std::string WithSpaces(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const bool is_mark = text.starts_with(kSpaceMark);
    out.push_back(is_mark ? ' ' : text[0]);
    text.remove_prefix(is_mark ? kSpaceMark.size() : 1);
  }
  return out;
}

// SentencePiece merges the pair whose joined piece has the highest score; here the first merge of
// the list goes first. Scores that fall in the order of the list do the same, if the list has every
// split of a piece.
void ModelReader::SetScores(Tokenizer& tokenizer) const {
  std::vector<uint32_t> order;  // of first merges
  std::vector<uint32_t> n_merges(texts_.size());
  std::string joined;
  ForEachMerge([&](std::string_view left, std::string_view right, size_t) {
    const uint32_t id = ids_.at(joined.assign(left).append(right));
    if (n_merges[id]++ == 0) order.push_back(id);
  });
  for (uint32_t id = 0; id < texts_.size(); ++id) {
    if (tokenizer.types[id] != TokenType::kNormal) continue;
    uint32_t n_splits = 0;
    for (const size_t cut : CutsOf(texts_[id])) {
      n_splits += ids_.contains(texts_[id].substr(0, cut)) && ids_.contains(texts_[id].substr(cut));
    }
    if (n_splits == n_merges[id]) continue;
    throw Unsupported("tokenizer.merges", "merges are not those of a SentencePiece model", file_,
                      "model.merges",
                      std::to_string(n_merges[id]) + " merges that give " + Quoted(texts_[id], 60))
        .Expected(std::to_string(n_splits) + ", one for each way to make it of two tokens");
  }
  // SentencePiece numbers its pieces by falling score, so ids give its own scores back; Llama's
  // have runs of spaces last, wherever their ids are.
  std::vector<uint32_t> others = order;
  std::erase_if(others, [&](uint32_t id) { return IsSpaceRun(texts_[id]); });
  const bool ids_are_sorted = std::ranges::is_sorted(order);
  const bool spaces_are_last = !ids_are_sorted && std::ranges::is_sorted(others) &&
                               std::equal(others.begin(), others.end(), order.begin());
  const auto first_normal = static_cast<uint32_t>(
      std::ranges::find(tokenizer.types, TokenType::kNormal) - tokenizer.types.begin());
  for (uint32_t id = first_normal; id < texts_.size(); ++id) {
    if (tokenizer.types[id] != TokenType::kNormal) continue;
    const bool is_last = spaces_are_last && IsSpaceRun(texts_[id]);
    tokenizer.scores[id] = is_last ? kSpaceRunScore : -static_cast<float>(id - first_normal);
  }
  if (ids_are_sorted || spaces_are_last) return;
  for (size_t i = 0; i < order.size(); ++i) tokenizer.scores[order[i]] = -static_cast<float>(i);
}

void ModelReader::ReadSpm(Tokenizer& tokenizer) const {
  tokenizer.kind = Tokenizer::Kind::kSentencePiece;
  tokenizer.pre = "default";
  bool prepends = false;
  for (const JsonValue& step : Steps(root_, "normalizer", "normalizers", file_)) {
    const std::string type = TypeOf(step, file_);
    if (type == "Prepend") {
      prepends = true;
    } else if (type != "Replace" || OptionalString(step, "content", file_) != kSpaceMark) {
      throw Unsupported("tokenizer.normalizer", "text is changed before it is cut", file_,
                        "normalizer", Quoted(type))
          .Expected("Prepend and Replace of spaces by '▁', or Metaspace");
    }
  }
  for (const JsonValue& step : Steps(root_, "pre_tokenizer", "pretokenizers", file_)) {
    const std::string type = TypeOf(step, file_);
    if (type != "Metaspace") {
      throw Unsupported("tokenizer.pre-tokenizer", "text is cut in a way that is not read", file_,
                        "pre_tokenizer", Quoted(type))
          .Expected("none, or Metaspace");
    }
    const auto scheme = OptionalString(step, "prepend_scheme", file_);
    prepends |=
        scheme ? *scheme != "never" : OptionalBool(step, "add_prefix_space", file_).value_or(true);
  }
  tokenizer.add_space_prefix = prepends;
  tokenizer.add_bos = false;
  tokenizer.add_eos = false;
  const auto unknown = OptionalString(*model_, "unk_token", file_);
  for (uint32_t id = 0; id < texts_.size(); ++id) {
    if (IsByteToken(texts_[id])) tokenizer.types[id] = TokenType::kByte;
    if (unknown && texts_[id].data() != nullptr && texts_[id] == *unknown) {
      tokenizer.types[id] = TokenType::kUnknown;
      tokenizer.unk_id = id;
    }
  }
  tokenizer.scores.assign(texts_.size(), 0.0f);
  SetScores(tokenizer);
}

void ModelReader::ReadBytePair(Tokenizer& tokenizer) const {
  tokenizer.kind = Tokenizer::Kind::kBytePair;
  for (const JsonValue& step : Steps(root_, "normalizer", "normalizers", file_)) {
    throw Unsupported("tokenizer.normalizer", "text is changed before it is cut", file_,
                      "normalizer", Quoted(TypeOf(step, file_)))
        .Expected("none");
  }
  std::optional<std::string> pattern;
  for (const JsonValue& step : Steps(root_, "pre_tokenizer", "pretokenizers", file_)) {
    const std::string type = TypeOf(step, file_);
    if (type == "Split") {
      const auto by = Object(step, "pattern", file_);
      pattern = pattern.value_or("") + (by ? OptionalString(*by, "Regex", file_).value_or("") : "");
    } else if (type == "ByteLevel") {
      if (OptionalBool(step, "add_prefix_space", file_).value_or(true)) {
        throw Unsupported("tokenizer.pre-tokenizer", "a space is put before the text", file_,
                          "add_prefix_space", "true")
            .Expected("false");
      }
      if (!pattern && OptionalBool(step, "use_regex", file_).value_or(true)) {
        tokenizer.pre = "gpt-2";  // ByteLevel has GPT-2's own pattern built in
      }
    } else {
      throw Unsupported("tokenizer.pre-tokenizer", "text is cut in a way that is not read", file_,
                        "pre_tokenizer", Quoted(type))
          .Expected("Split and ByteLevel");
    }
  }
  if (pattern == kLlama3Pattern) tokenizer.pre = "llama-bpe";
  if (tokenizer.pre.empty()) {
    throw Unsupported("tokenizer.pre-tokenizer", "text is cut by an unknown pattern", file_,
                      "pre_tokenizer", Quoted(pattern.value_or("none")))
        .Expected("the pattern of Llama 3 or of GPT-2");
  }
  ForEachMerge([&](std::string_view left, std::string_view right, size_t index) {
    std::string merge(left);
    merge.append(" ").append(right);
    if (merge.find(' ', 1) != left.size() || merge.find(' ', left.size() + 1) != merge.npos) {
      throw BadMerge(index, merge).Expected("tokens without spaces");
    }
    tokenizer.merges.push_back(merge);
  });
}

Tokenizer ModelReader::Read() {
  Tokenizer tokenizer;
  tokenizer.types.assign(texts_.size(), TokenType::kNormal);
  for (uint32_t id = 0; id < texts_.size(); ++id) {
    if (texts_[id].data() == nullptr) tokenizer.types[id] = TokenType::kUnused;
  }
  for (const auto& [id, token] :
       added_) {  // the vocabulary does not say which of its tokens these are
    if (id >= texts_.size() || texts_[id] != token.text) continue;
    tokenizer.types[id] = token.special ? TokenType::kControl : TokenType::kUserDefined;
  }
  if (OptionalBool(*model_, "byte_fallback", file_).value_or(false)) {
    ReadSpm(tokenizer);
  } else {
    ReadBytePair(tokenizer);
  }
  for (uint32_t id = 0; id < texts_.size(); ++id) {
    const bool is_hole = texts_[id].data() == nullptr;
    tokenizer.tokens.push_back(is_hole ? "[PAD" + std::to_string(id) + "]"
                                       : std::string(texts_[id]));
    if (is_hole && !tokenizer.scores.empty()) tokenizer.scores[id] = kPaddingScore;
  }
  return tokenizer;
}

// What is put before and behind every text, by the first template.
void ReadTemplate(const JsonValue& root, std::string_view file, Tokenizer& tokenizer) {
  for (const JsonValue& step : Steps(root, "post_processor", "processors", file)) {
    if (TypeOf(step, file) != "TemplateProcessing") continue;
    const auto single = step.Find("single");
    if (!single || !single->is_array()) continue;
    constexpr size_t kMaxItems = 8;  // real ones have three
    bool before_text = true;
    size_t n_items = 0;
    for (const auto& item : single->items()) {
      if (++n_items > kMaxItems) break;
      if (!item.value.is_object())
        ThrowConfigValue(file, "single", item.value.ToString(), "objects");
      const auto special = Object(item.value, "SpecialToken", file);
      if (!special) {
        before_text = false;
        continue;
      }
      const std::string text = OptionalString(*special, "id", file).value_or("");
      for (uint32_t id = 0; id < tokenizer.tokens.size(); ++id) {
        if (tokenizer.tokens[id] != text) continue;
        (before_text ? tokenizer.bos_id : tokenizer.eos_id) = id;
        (before_text ? tokenizer.add_bos : tokenizer.add_eos) = true;
        break;
      }
    }
  }
}

}  // namespace

AddedTokens ReadAddedTokens(std::string_view text, std::string_view file) {
  return AddedTokensOf(ParseObject(text, file), file);
}

void PutAddedTokens(const AddedTokens& added, std::string_view file, Tokenizer& tokenizer) {
  const auto n_old = static_cast<uint32_t>(tokenizer.tokens.size());
  if (!added.empty() && added.rbegin()->first >= n_old + added.size() + kMaxGap) {
    throw DataError("tokenizer.id", "an added token has an impossible id")
        .File(file)
        .Where("token " + Quoted(added.rbegin()->second.text, 60))
        .Found(std::to_string(added.rbegin()->first))
        .Expected("a number behind the " + std::to_string(n_old) + " of the vocabulary");
  }
  const uint32_t n_new = added.empty() ? n_old : std::max(n_old, added.rbegin()->first + 1);
  if (tokenizer.types.empty()) tokenizer.types.assign(n_old, TokenType::kNormal);
  const bool is_spm = tokenizer.kind == Tokenizer::Kind::kSentencePiece;
  StringList tokens;
  std::unordered_set<std::string> taken;
  for (uint32_t id = 0; id < n_new; ++id) {
    const auto it = added.find(id);
    std::string text =
        id < n_old ? std::string(tokenizer.tokens[id]) : "[PAD" + std::to_string(id) + "]";
    if (id >= n_old) {
      tokenizer.types.push_back(TokenType::kUnused);
      if (is_spm) tokenizer.scores.push_back(kPaddingScore);
    }
    if (it != added.end()) {
      const AddedToken& token = it->second;
      const bool is_same = id < n_old && token.text == text;
      if (!is_same) {
        text = token.text;
        // User-defined tokens are compared with the text before its spaces are replaced.
        if (is_spm && !token.special) text = WithSpaces(text);
        if (is_spm) tokenizer.scores[id] = kAddedScore;
        tokenizer.types[id] = token.special ? TokenType::kControl : TokenType::kUserDefined;
      }
    }
    if (!taken.insert(text).second) {
      throw DataError("tokenizer.duplicate-token", "two tokens have one text")
          .File(file)
          .Where("token " + std::to_string(id))
          .Found(Quoted(text, 60));
    }
    tokens.push_back(text);
  }
  tokenizer.tokens = std::move(tokens);
}

Tokenizer ReadTokenizerJson(std::string_view text, std::string_view file) {
  const JsonValue root = ParseObject(text, file);
  const AddedTokens added = AddedTokensOf(root, file);
  Tokenizer tokenizer = ModelReader(root, added, file).Read();
  PutAddedTokens(added, file, tokenizer);
  ReadTemplate(root, file, tokenizer);
  return tokenizer;
}

}  // namespace quern
