#include "verify/tokenizer_spm.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <cmath>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "formats/core/error.h"
#include "verify/pair_merger.h"
#include "verify/user_tokens.h"

namespace quern {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, "▁"

// Returns the bytes of the character that begins with `lead`, from the lead byte alone (a
// continuation byte stands for itself). Source: RFC 3629, section 3.
constexpr size_t CharBytes(char lead) {
  constexpr std::array<uint8_t, 16> kBytes = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
  return kBytes[static_cast<uint8_t>(lead) >> 4];
}
size_t CharBytesAt(std::string_view text, size_t at) {
  return std::min(CharBytes(text[at]), text.size() - at);
}

// Which two characters stand side by side inside some token. Where two do not, no merge ever
// crosses, and the text may be cut there without changing the result: that keeps the queue short.
class NeighbourTable {
 public:
  void AddToken(std::string_view token) {
    std::string_view left;
    for (size_t at = 0; at < token.size();) {
      const std::string_view right = token.substr(at, CharBytesAt(token, at));
      if (!left.empty()) {
        if (left.size() == 1 && right.size() == 1) {
          single_.set(SingleKey(left[0], right[0]));
        } else {
          wide_.insert(WideKey(left, right));
        }
      }
      left = right;
      at += right.size();
    }
  }
  bool Contains(std::string_view left, std::string_view right) const {
    if (left.size() == 1 && right.size() == 1) return single_.test(SingleKey(left[0], right[0]));
    return wide_.contains(WideKey(left, right));
  }

 private:
  static size_t SingleKey(char left, char right) {
    return size_t{static_cast<uint8_t>(left)} << 8 | static_cast<uint8_t>(right);
  }
  // Packs up to four bytes of each side. (A cut-off character at a token's end looks like a shorter
  // one padded with NULs; a collision only means that one cut is not made.)
  static uint64_t WideKey(std::string_view left, std::string_view right) {
    uint64_t key = 0;
    for (size_t i = 0; i < 4; ++i) key = key << 8 | (i < left.size() ? uint8_t(left[i]) : 0u);
    for (size_t i = 0; i < 4; ++i) key = key << 8 | (i < right.size() ? uint8_t(right[i]) : 0u);
    return key;
  }

  std::bitset<65536> single_;
  std::unordered_set<uint64_t> wide_;
};

using TokenMap = std::unordered_map<std::string_view, int32_t>;

// Two symbols merge if together they are a token; the better its score, the sooner.
struct SpmRules {
  using Priority = float;
  std::optional<SymbolMerge<float>> Find(std::string_view both, const TextSymbol&,
                                         const TextSymbol&) const {
    const auto found = ids.find(both);
    if (found == ids.end()) return std::nullopt;
    return SymbolMerge<float>{-scores[static_cast<size_t>(found->second)], 0};
  }
  const TokenMap& ids;
  const std::vector<float>& scores;
};

class SpmEncoder final : public TextTokenizer::Encoder {
 public:
  explicit SpmEncoder(const Tokenizer& tokenizer)
      : user_tokens_(tokenizer),
        add_space_prefix_(tokenizer.add_space_prefix.value_or(true)),
        scores_(tokenizer.scores) {
    const size_t n = tokenizer.tokens.size();
    scores_.resize(n, 0.0f);
    for (const float score : scores_) {
      if (std::isnan(score)) {
        throw DataError("tokenizer.vocabulary", "a token's score is not a number");
      }
    }
    ids_.reserve(n);
    for (size_t id = 0; id < n; ++id) {
      const std::string_view token = tokenizer.tokens[id];
      ids_.emplace(token, static_cast<int32_t>(id));
      neighbours_.AddToken(token);
    }
    FindByteTokens();
    if (tokenizer.unk_id && *tokenizer.unk_id < n) {
      unknown_ = static_cast<int32_t>(*tokenizer.unk_id);
    }
  }

  void Encode(std::string_view text, std::vector<int32_t>& ids) const override {
    const SpmRules rules{ids_, scores_};
    Merger merger(rules);
    std::string marked;
    bool behind_token = true;
    for (const TextFragment& fragment : user_tokens_.Split(text)) {
      if (fragment.token >= 0) {
        ids.push_back(fragment.token);
        behind_token = true;
        continue;
      }
      marked.clear();
      if (add_space_prefix_ && behind_token) marked += kSpaceMark;
      for (const char c : fragment.text) {
        if (c == ' ') {
          marked += kSpaceMark;
        } else {
          marked.push_back(c);
        }
      }
      EncodeMarked(marked, merger, ids);
      behind_token = false;
    }
  }

 private:
  using Merger = PairMerger<SpmRules>;

  void FindByteTokens() {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    for (size_t byte = 0; byte < 256; ++byte) {
      const std::array<char, 6> name = {'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>'};
      const char raw = static_cast<char>(byte);
      auto found = ids_.find(std::string_view(name.data(), name.size()));
      if (found == ids_.end()) found = ids_.find(std::string_view(&raw, 1));
      byte_tokens_[byte] = found == ids_.end() ? -1 : found->second;
    }
  }

  // Cuts `text` where no token can cross and encodes the pieces.
  void EncodeMarked(std::string_view text, Merger& merger, std::vector<int32_t>& ids) const {
    const auto encode = [&](std::string_view piece) {
      merger.Clear();
      for (size_t at = 0; at < piece.size();) {
        const size_t size = CharBytesAt(piece, at);
        merger.Add(static_cast<uint32_t>(size), 0);
        at += size;
      }
      merger.Run(piece, [&](const TextSymbol& symbol) {
        EmitSymbol(piece.substr(symbol.begin, symbol.size), ids);
      });
    };
    size_t begin = 0;
    std::string_view left;
    for (size_t at = 0; at < text.size();) {
      const std::string_view right = text.substr(at, CharBytesAt(text, at));
      if (!left.empty() && !neighbours_.Contains(left, right)) {
        encode(text.substr(begin, at - begin));
        begin = at;
      }
      left = right;
      at += right.size();
    }
    encode(text.substr(begin));
  }

  void EmitSymbol(std::string_view symbol, std::vector<int32_t>& ids) const {
    const auto found = ids_.find(symbol);
    if (found != ids_.end()) {
      ids.push_back(found->second);
      return;
    }
    for (const char c : symbol) {
      const int32_t token = byte_tokens_[static_cast<uint8_t>(c)];
      if (token >= 0) {
        ids.push_back(token);
      } else if (unknown_ >= 0) {  // SentencePiece: one unknown token per character.
        ids.push_back(unknown_);
        return;
      } else {
        throw DataError("text.tokenize", "the vocabulary has no token for this text")
            .Found(Quoted(symbol))
            .Expected("a token, byte tokens or an unknown token");
      }
    }
  }

  UserTokens user_tokens_;
  bool add_space_prefix_;
  std::vector<float> scores_;
  TokenMap ids_;
  NeighbourTable neighbours_;
  std::array<int32_t, 256> byte_tokens_{};
  int32_t unknown_ = -1;
};

}  // namespace

std::unique_ptr<TextTokenizer::Encoder> MakeSpmEncoder(const Tokenizer& tokenizer) {
  return std::make_unique<SpmEncoder>(tokenizer);
}

}  // namespace quern
