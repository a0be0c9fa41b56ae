#include "converters/tokenizer_json.h"

#include <algorithm>
#include <array>
#include <optional>

#include "converters/tokenizer_import.h"
#include "formats/core/error.h"
#include "formats/duplicates.h"
#include "formats/json_limits.h"
#include "formats/sentencepiece_model.h"
#include "formats/text_index.h"

namespace quern {
namespace {

constexpr uint64_t kMaxTokens = 1u << 22;
constexpr std::string_view kSpaceMark = "▁";
constexpr float kAddedScore = -1000.0f;  // as llama.cpp's converter gives them
constexpr float kSpaceRunScore = -1e9f;  // of Llama's pieces that are made of spaces only
// Llama 2's longest token has 48 bytes, all of them 0.25 MB. The limits keep the splits that are
// tried in proportion to that.
constexpr size_t kMaxPieceBytes = 256;
constexpr size_t kMaxVocabularyTextBytes = size_t{8} << 20;

AddedTokens AddedTokensOf(const JsonValue& root, std::string_view file) {
  AddedTokens added;
  const auto list = root.Find("added_tokens");
  if (!list || list->kind() == JsonValue::Kind::kNull) return added;
  if (!list->is_array()) ThrowConfigValue(file, "added_tokens", list->ToString(), "an array");
  for (const auto& item : list->items()) {
    const JsonValue& token = item.value;
    if (!token.is_object()) ThrowConfigValue(file, "added_tokens", token.ToString(), "objects");
    const auto id = static_cast<uint32_t>(RequireUint(token, "id", kMaxTokens, file));
    auto content = OptionalString(token, "content", file);
    if (!content) {
      ThrowConfigValue(file, "content", "nothing", "the text of added token " + std::to_string(id));
    }
    added.Add({id, OptionalBool(token, "special", file).value_or(false), std::move(*content)});
  }
  return added;
}

// The BPE model: its tokens by id, its merges.
class ModelReader {
 public:
  ModelReader(const JsonValue& root, AddedTokens& added, std::string_view file)
      : file_(file), root_(root), added_(added) {
    const auto model = OptionalObject(root, "model", file);
    if (!model) ThrowConfigValue(file, "model", "nothing", "an object");
    model_ = *model;
    CheckAlgorithm();
    ReadVocabulary();
  }

  // Reads all but the added tokens.
  Tokenizer Read();

 private:
  void CheckAlgorithm() const;
  void ReadVocabulary();
  void ReadSpm(Tokenizer& tokenizer) const;
  void ReadBytePair(Tokenizer& tokenizer) const;
  void SetScores(Tokenizer& tokenizer) const;
  void CheckSplits(const Tokenizer& tokenizer, const std::vector<uint32_t>& n_merges) const;
  // Calls take(left, right, joined, index) for every merge: the halves, which are tokens, and the
  // id of what they make.
  template <typename Take>
  void ForEachMerge(Take&& take) const;
  Error BadMerge(size_t index, std::string_view found) const {
    return DataError("tokenizer.merge", "a merge does not join two tokens to a third")
        .File(file_)
        .Where("merge " + std::to_string(index))
        .Found(Quoted(found, 60));
  }
  Error Refused(std::string_view what, std::string_view key, std::string_view found) const {
    return UnsupportedStep("tokenizer.algorithm", what, file_, "model." + std::string(key), found);
  }
  bool Switch(std::string_view key) const { return OptionalBool(*model_, key, file_).value_or(false); }

  std::string_view file_;
  const JsonValue& root_;
  AddedTokens& added_;
  std::optional<JsonValue> model_;
  std::vector<std::string_view> texts_;  // by id; null where there is none
  std::optional<TextIndex<std::vector<std::string_view>>> ids_;
};

void ModelReader::CheckAlgorithm() const {
  if (const auto type = OptionalString(*model_, "type", file_); type && *type != "BPE") {
    throw Refused("vocabulary of a kind that is not read", "type", Quoted(*type)).Expected("'BPE'");
  }
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const auto affix = OptionalString(*model_, key, file_);
    if (affix && !affix->empty()) {
      throw Refused("vocabulary marks parts of words", key, Quoted(*affix)).Expected("null");
    }
  }
  if (const auto dropout = OptionalDouble(*model_, "dropout", file_); dropout && *dropout != 0) {
    throw Refused("merges are left out by chance", "dropout", model_->Find("dropout")->ToString())
        .Expected("null");
  }
}

void ModelReader::ReadVocabulary() {
  const auto vocab = model_->Find("vocab");
  if (!vocab || !vocab->is_object() || vocab->size() == 0) {
    ThrowConfigValue(file_, "vocab", vocab ? vocab->ToString() : "nothing",
                     "an object of tokens and their ids");
  }
  const uint64_t max_id = std::min<uint64_t>(vocab->size() + kMaxPaddingTokens, kMaxTokens);
  texts_.reserve(vocab->size());
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
  }
  ids_.emplace(texts_);
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
    const auto id = ids_->Find(joined.assign(left).append(right));
    if (!id || !ids_->Has(left) || !ids_->Has(right)) {
      throw BadMerge(index, std::string(left) + " " + std::string(right))
          .Expected("tokens of the vocabulary");
    }
    take(left, right, *id, index++);
  }
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

// Checks that the merges of each token are all its splits into two tokens.
void ModelReader::CheckSplits(const Tokenizer& tokenizer,
                              const std::vector<uint32_t>& n_merges) const {
  std::array<bool, kMaxPieceBytes + 1> has_length{};
  size_t n_bytes = 0;
  for (uint32_t id = 0; id < texts_.size(); ++id) {
    n_bytes += texts_[id].size();
    if (texts_[id].size() <= kMaxPieceBytes) has_length[texts_[id].size()] = true;
    if (tokenizer.types[id] != TokenType::kNormal || texts_[id].size() <= kMaxPieceBytes) continue;
    throw UnsupportedError("tokenizer.token-length", "a token is too long")
        .File(file_)
        .Where("token " + Quoted(texts_[id], 60))
        .Found(std::to_string(texts_[id].size()) + " bytes")
        .Expected("at most " + std::to_string(kMaxPieceBytes));
  }
  if (n_bytes > kMaxVocabularyTextBytes) {
    throw UnsupportedError("tokenizer.token-length", "the vocabulary has too much text")
        .File(file_)
        .Found(std::to_string(n_bytes) + " bytes")
        .Expected("at most " + std::to_string(kMaxVocabularyTextBytes));
  }
  for (uint32_t id = 0; id < texts_.size(); ++id) {
    if (tokenizer.types[id] != TokenType::kNormal) continue;
    const std::string_view text = texts_[id];
    uint32_t n_splits = 0;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      // Characters are never cut.
      if ((static_cast<uint8_t>(text[cut]) & 0xc0) == 0x80) continue;
      if (!has_length[cut] || !has_length[text.size() - cut]) continue;
      n_splits += ids_->Has(text.substr(0, cut)) && ids_->Has(text.substr(cut));
    }
    if (n_splits == n_merges[id]) continue;
    throw UnsupportedStep("tokenizer.merges", "merges are not those of a SentencePiece model", file_,
                          "model.merges",
                          std::to_string(n_merges[id]) + " merges that give " + Quoted(text, 60))
        .Expected(std::to_string(n_splits) + ", one for each way to make it of two tokens");
  }
}

// SentencePiece merges the pair whose joined piece has the highest score; here the first merge of
// the list goes first. Scores that fall in the order of the list do the same, if the list has every
// split of a piece.
void ModelReader::SetScores(Tokenizer& tokenizer) const {
  std::vector<uint32_t> order;  // of first merges
  std::vector<uint32_t> n_merges(texts_.size());
  ForEachMerge([&](std::string_view, std::string_view, uint32_t id, size_t) {
    if (n_merges[id]++ == 0) order.push_back(id);
  });
  CheckSplits(tokenizer, n_merges);
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
  if (Switch("ignore_merges")) {
    throw Refused("whole texts are looked up before merges", "ignore_merges", "true")
        .Expected("false");
  }
  tokenizer.add_space_prefix = ReadSpmSteps(root_, file_);
  tokenizer.add_bos = false;
  tokenizer.add_eos = false;
  // Version 5 of transformers leaves it to tokenizer_config.json: with all bytes nothing is unknown.
  if (const auto unknown = OptionalString(*model_, "unk_token", file_)) {
    tokenizer.unk_id = ids_->Find(*unknown);
    if (!tokenizer.unk_id) {
      ThrowConfigValue(file_, "unk_token", Quoted(*unknown, 60), "a token of the vocabulary");
    }
  }
  std::array<bool, 256> has_byte{};
  for (uint32_t id = 0; id < texts_.size(); ++id) {
    const auto byte = ByteOfPiece(texts_[id]);
    if (!byte) continue;
    tokenizer.types[id] = TokenType::kByte;
    has_byte[*byte] = true;
  }
  if (tokenizer.unk_id) tokenizer.types[*tokenizer.unk_id] = TokenType::kUnknown;
  const auto missing = std::ranges::find(has_byte, false);
  if (missing != has_byte.end()) {
    throw DataError("tokenizer.byte-missing", "byte_fallback without a token for each byte")
        .File(file_)
        .Where("key 'model.vocab'")
        .Expected("a token for byte " + std::to_string(missing - has_byte.begin()) +
                  ", \"<0x00>\" to \"<0xFF>\"");
  }
  tokenizer.scores.assign(texts_.size(), 0.0f);
  SetScores(tokenizer);
}

void ModelReader::ReadBytePair(Tokenizer& tokenizer) const {
  tokenizer.kind = Tokenizer::Kind::kBytePair;
  tokenizer.pre = ReadByteLevelSteps(root_, file_);
  // Files of before the member existed lack it, and llama.cpp looks up whole words for "llama-bpe"
  // in any case.
  if (tokenizer.pre != "llama-bpe" && Switch("ignore_merges")) {
    throw Refused("whole words are looked up before merges", "ignore_merges", "true")
        .Expected("false");
  }
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text = ByteLevelText(std::string(1, static_cast<char>(byte)));
    if (ids_->Has(text)) continue;
    throw DataError("tokenizer.byte-missing", "no token for a single byte")
        .File(file_)
        .Where("key 'model.vocab'")
        .Expected("a token " + Quoted(text) + " for byte " + std::to_string(byte));
  }
  ForEachMerge([&](std::string_view left, std::string_view right, uint32_t, size_t index) {
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
  for (const auto& [id, special, text] : added_.Sorted()) {
    // The vocabulary does not say which of its tokens these are.
    if (id >= texts_.size() || texts_[id] != text) continue;
    tokenizer.types[id] = special ? TokenType::kControl : TokenType::kUserDefined;
  }
  if (Switch("byte_fallback")) {
    ReadSpm(tokenizer);
  } else {
    ReadBytePair(tokenizer);
  }
  for (uint32_t id = 0; id < texts_.size(); ++id) {
    const bool is_hole = texts_[id].data() == nullptr;
    if (is_hole) {
      tokenizer.tokens.push_back(PaddingToken(id));
    } else {
      tokenizer.tokens.push_back(texts_[id]);
    }
    if (is_hole && !tokenizer.scores.empty()) tokenizer.scores[id] = kPaddingScore;
  }
  return tokenizer;
}

}  // namespace

void AddedTokens::Append(AddedTokens other) {
  if (tokens_.empty()) {
    tokens_ = std::move(other.tokens_);
    return;
  }
  for (AddedToken& token : other.tokens_) tokens_.push_back(std::move(token));
}

const std::vector<AddedToken>& AddedTokens::Sorted() {
  std::ranges::stable_sort(tokens_, {}, &AddedToken::id);
  size_t n = 0;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (i + 1 < tokens_.size() && tokens_[i + 1].id == tokens_[i].id) continue;
    if (n != i) tokens_[n] = std::move(tokens_[i]);
    ++n;
  }
  tokens_.resize(n);
  return tokens_;
}

AddedTokens ReadAddedTokens(std::string_view text, std::string_view file) {
  return AddedTokensOf(ParseJsonObject(text, file, "the members of a tokenizer"), file);
}

void PutAddedTokens(AddedTokens added, std::string_view file, Tokenizer& tokenizer) {
  const std::vector<AddedToken>& sorted = added.Sorted();
  const auto n_old = static_cast<uint32_t>(tokenizer.tokens.size());
  if (!sorted.empty() && sorted.back().id >= n_old + sorted.size() + kMaxPaddingTokens) {
    throw DataError("tokenizer.id", "an added token has an impossible id")
        .File(file)
        .Where("token " + Quoted(sorted.back().text, 60))
        .Found(std::to_string(sorted.back().id))
        .Expected("a number behind the " + std::to_string(n_old) + " of the vocabulary");
  }
  const uint32_t n_new = sorted.empty() ? n_old : std::max(n_old, sorted.back().id + 1);
  if (tokenizer.types.empty()) tokenizer.types.assign(n_old, TokenType::kNormal);
  const bool is_spm = tokenizer.kind == Tokenizer::Kind::kSentencePiece;
  StringList tokens;
  tokens.reserve(n_new, tokenizer.tokens.n_bytes());
  auto next = sorted.begin();
  for (uint32_t id = 0; id < n_new; ++id) {
    std::string text = id < n_old ? std::string(tokenizer.tokens[id]) : PaddingToken(id);
    if (id >= n_old) {
      tokenizer.types.push_back(TokenType::kUnused);
      if (is_spm) tokenizer.scores.push_back(kPaddingScore);
    }
    if (next != sorted.end() && next->id == id) {
      const AddedToken& token = *next++;
      if (id >= n_old || token.text != text) {
        // User-defined tokens are compared with the text before its spaces are replaced.
        text = is_spm && !token.special ? WithSpaces(token.text) : token.text;
        if (is_spm) tokenizer.scores[id] = kAddedScore;
        tokenizer.types[id] = token.special ? TokenType::kControl : TokenType::kUserDefined;
      }
    }
    if (text.find('\0') != text.npos) {
      throw DataError("tokenizer.token", "a token holds a NUL byte")
          .File(file)
          .Where("token " + std::to_string(id))
          .Found(Quoted(text, 60))
          .Hint("llama.cpp aborts on such a vocabulary");
    }
    tokens.push_back(text);
  }
  if (const auto i = FirstDuplicate(tokens.size(), [&](size_t k) { return tokens[k]; })) {
    throw DataError("tokenizer.duplicate-token", "two tokens have one text")
        .File(file)
        .Where("token " + std::to_string(*i))
        .Found(Quoted(tokens[*i], 60));
  }
  tokenizer.tokens = std::move(tokens);
}

void SetTemplate(const TextTemplate& text_template, std::string_view file, Tokenizer& tokenizer) {
  const auto set = [&](const std::optional<std::string>& text, std::optional<uint32_t>& id,
                       std::optional<bool>& add) {
    if (!text) return;
    id = FindToken(tokenizer, *text);
    if (!id) ThrowConfigValue(file, "single", Quoted(*text, 60), "a token of the vocabulary");
    add = true;
  };
  set(text_template.before, tokenizer.bos_id, tokenizer.add_bos);
  set(text_template.behind, tokenizer.eos_id, tokenizer.add_eos);
}

TokenizerJson ParseTokenizerJson(std::string_view text, std::string_view file) {
  const JsonValue root = ParseJsonObject(text, file, "the members of a tokenizer");
  TokenizerJson result;
  result.added = AddedTokensOf(root, file);
  result.tokenizer = ModelReader(root, result.added, file).Read();
  result.text_template = ReadTemplate(root, file);
  return result;
}

Tokenizer ReadTokenizerJson(std::string_view text, std::string_view file) {
  TokenizerJson parts = ParseTokenizerJson(text, file);
  PutAddedTokens(std::move(parts.added), file, parts.tokenizer);
  SetTemplate(parts.text_template, file, parts.tokenizer);
  return std::move(parts.tokenizer);
}

}  // namespace quern
