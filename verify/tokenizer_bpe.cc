#include "verify/tokenizer_bpe.h"

#include <array>
#include <optional>
#include <string>
#include <unordered_map>

#include "formats/core/error.h"
#include "verify/pair_merger.h"
#include "verify/user_tokens.h"

namespace quern {
namespace {

// Vocabularies write bytes as printable characters: those of Latin-1 that print stand for
// themselves, the others, in order, are U+0100 and up. Source: openai/gpt-2, bytes_to_unicode.
class ByteAlphabet {
 public:
  ByteAlphabet() {
    bytes_.fill(-1);
    int next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool prints = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      bytes_[static_cast<size_t>(prints ? byte : next++)] = static_cast<int16_t>(byte);
    }
  }
  // Returns the bytes that `text` stands for, or nothing if it has other characters or is no UTF-8.
  std::optional<std::string> Decode(std::string_view text) const {
    std::string bytes;
    for (size_t i = 0; i < text.size(); ++i) {
      unsigned code = static_cast<uint8_t>(text[i]);
      if (code >= 0x80) {  // Only two-byte sequences reach the alphabet's end, U+0143.
        if (code < 0xC2 || code > 0xDF || i + 1 == text.size()) return std::nullopt;
        const unsigned next = static_cast<uint8_t>(text[++i]);
        if ((next & 0xC0) != 0x80) return std::nullopt;
        code = (code & 0x1F) << 6 | (next & 0x3F);
      }
      if (code >= bytes_.size() || bytes_[code] < 0) return std::nullopt;
      bytes.push_back(static_cast<char>(bytes_[code]));
    }
    return bytes;
  }

 private:
  std::array<int16_t, 0x144> bytes_;
};

// Everything that a symbol can be while bytes merge, numbered: the 256 bytes first.
class SymbolTable {
 public:
  SymbolTable() {
    for (int byte = 0; byte < 256; ++byte) Number(std::string(1, static_cast<char>(byte)));
  }
  // Returns the number of `bytes`, a new one if need be.
  uint32_t Number(const std::string& bytes) {
    const auto [place, is_new] = numbers_.emplace(bytes, static_cast<uint32_t>(tokens_.size()));
    if (is_new) tokens_.push_back(-1);
    return place->second;
  }
  std::optional<uint32_t> Find(const std::string& bytes) const {
    const auto found = numbers_.find(bytes);
    if (found == numbers_.end()) return std::nullopt;
    return found->second;
  }
  int32_t token(uint32_t number) const { return tokens_[number]; }
  void SetToken(uint32_t number, int32_t token) {
    if (tokens_[number] < 0) tokens_[number] = token;
  }

 private:
  std::unordered_map<std::string, uint32_t> numbers_;
  std::vector<int32_t> tokens_;  // per number, or -1
};

struct BpeRules {
  using Priority = uint32_t;
  std::optional<SymbolMerge<uint32_t>> Find(std::string_view, const TextSymbol& left,
                                            const TextSymbol& right) const {
    const auto found = merges.find(Key(left.id, right.id));
    if (found == merges.end()) return std::nullopt;
    return found->second;
  }
  static uint64_t Key(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }

  std::unordered_map<uint64_t, SymbolMerge<uint32_t>> merges;  // priority: rank
};

class BpeEncoder final : public TextTokenizer::Encoder {
 public:
  BpeEncoder(const Tokenizer& tokenizer, const PreTokenizer& pre)
      : user_tokens_(tokenizer), pre_(pre), splitter_(pre) {
    if (tokenizer.merges.empty()) {
      throw DataError("tokenizer.vocabulary", "the byte-pair vocabulary has no merges");
    }
    const ByteAlphabet alphabet;
    for (size_t id = 0; id < tokenizer.tokens.size(); ++id) {
      // Tokens in other characters (special ones, with spaces) never come out of merges.
      const auto bytes = alphabet.Decode(tokenizer.tokens[id]);
      if (bytes && !bytes->empty()) {
        symbols_.SetToken(symbols_.Number(*bytes), static_cast<int32_t>(id));
      }
    }
    AddMerges(tokenizer.merges, alphabet);
  }

  void Encode(std::string_view text, std::vector<int32_t>& ids) const override {
    PairMerger<BpeRules> merger(rules_);
    for (const TextFragment& fragment : user_tokens_.Split(text)) {
      if (fragment.token >= 0) {
        ids.push_back(fragment.token);
        continue;
      }
      for (const std::string_view word : splitter_.Split(fragment.text)) {
        EncodeWord(word, merger, ids);
      }
    }
  }

 private:
  void AddMerges(const StringList& merges, const ByteAlphabet& alphabet) {
    rules_.merges.reserve(merges.size());
    for (size_t rank = 0; rank < merges.size(); ++rank) {
      const std::string_view merge = merges[rank];
      const size_t space = merge.find(' ', 1);  // A half may begin with a space in other tools' files.
      if (space == std::string_view::npos) {
        throw DataError("tokenizer.vocabulary", "a merge has no second half")
            .Where("merge " + std::to_string(rank))
            .Found(Quoted(merge));
      }
      const auto left = alphabet.Decode(merge.substr(0, space));
      const auto right = alphabet.Decode(merge.substr(space + 1));
      if (!left || !right) continue;  // In other characters: no text leads to it.
      const uint64_t key = BpeRules::Key(symbols_.Number(*left), symbols_.Number(*right));
      rules_.merges.emplace(key, SymbolMerge<uint32_t>{static_cast<uint32_t>(rank),
                                                       symbols_.Number(*left + *right)});
    }
  }

  void EncodeWord(std::string_view word, PairMerger<BpeRules>& merger,
                  std::vector<int32_t>& ids) const {
    if (pre_.whole_words_first) {
      const auto whole = symbols_.Find(std::string(word));
      if (whole && symbols_.token(*whole) >= 0) {
        ids.push_back(symbols_.token(*whole));
        return;
      }
    }
    merger.Clear();
    for (const char c : word) merger.Add(1, static_cast<uint8_t>(c));
    merger.Run(word, [&](const TextSymbol& symbol) {
      if (symbols_.token(symbol.id) >= 0) {
        ids.push_back(symbols_.token(symbol.id));
      } else {
        EmitBytes(word.substr(symbol.begin, symbol.size), ids);
      }
    });
  }

  void EmitBytes(std::string_view bytes, std::vector<int32_t>& ids) const {
    for (const char c : bytes) {
      const int32_t token = symbols_.token(static_cast<uint8_t>(c));
      if (token < 0) {
        throw DataError("text.tokenize", "the vocabulary has no token for a byte of the text")
            .Found(Quoted(std::string_view(&c, 1)));
      }
      ids.push_back(token);
    }
  }

  UserTokens user_tokens_;
  const PreTokenizer& pre_;
  WordSplitter splitter_;
  SymbolTable symbols_;
  BpeRules rules_;
};

}  // namespace

std::unique_ptr<TextTokenizer::Encoder> MakeBpeEncoder(const Tokenizer& tokenizer,
                                                       const PreTokenizer& pre) {
  return std::make_unique<BpeEncoder>(tokenizer, pre);
}

}  // namespace quern
