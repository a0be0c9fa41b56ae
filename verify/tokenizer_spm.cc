#include "verify/tokenizer_spm.h"

#include <algorithm>
#include <array>
#include <bitset>
#include <cmath>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "formats/core/error.h"
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

// Merges the characters of one piece of text; its buffers are used again for the next.
class Merger {
 public:
  using TokenMap = std::unordered_map<std::string_view, int32_t>;
  Merger(const TokenMap& ids, const std::vector<float>& scores) : ids_(ids), scores_(scores) {}

  // Calls emit(symbol text) for each symbol that is left, in order.
  template <typename Emit>
  void Run(std::string_view text, const Emit& emit) {
    text_ = text;
    symbols_.clear();
    queue_.clear();
    for (size_t at = 0; at < text.size();) {
      const size_t size = CharBytesAt(text, at);
      const auto index = static_cast<uint32_t>(symbols_.size());
      symbols_.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(size), index - 1,
                          index + 1});
      at += size;
    }
    const auto n = static_cast<uint32_t>(symbols_.size());
    for (uint32_t i = 0; i + 1 < n; ++i) Offer(i, i + 1);
    while (!queue_.empty()) MergeBest();
    for (uint32_t i = 0; i < n; i = symbols_[i].next) {
      emit(text.substr(symbols_[i].begin, symbols_[i].size));
    }
  }

 private:
  struct Symbol {
    uint32_t begin, size;  // size 0: merged into its left neighbour
    uint32_t prev, next;   // prev of the first and next of the last are out of range
  };
  struct Pair {
    float score;
    uint32_t left, right, size;
    bool operator<(const Pair& other) const {  // true if `other` goes first
      return score != other.score ? score < other.score : left > other.left;
    }
  };

  void Offer(uint32_t left, uint32_t right) {
    if (left >= symbols_.size() || right >= symbols_.size()) return;
    const uint32_t size = symbols_[left].size + symbols_[right].size;
    const auto found = ids_.find(text_.substr(symbols_[left].begin, size));
    if (found == ids_.end()) return;
    queue_.push_back({scores_[static_cast<size_t>(found->second)], left, right, size});
    std::push_heap(queue_.begin(), queue_.end());
  }

  void MergeBest() {
    std::pop_heap(queue_.begin(), queue_.end());
    const Pair pair = queue_.back();
    queue_.pop_back();
    Symbol& left = symbols_[pair.left];
    Symbol& right = symbols_[pair.right];
    // One of the two has merged with another since.
    if (left.size == 0 || right.size == 0 || left.size + right.size != pair.size) return;
    left.size = pair.size;
    right.size = 0;
    left.next = right.next;
    if (right.next < symbols_.size()) symbols_[right.next].prev = pair.left;
    Offer(left.prev, pair.left);
    Offer(pair.left, left.next);
  }

  const TokenMap& ids_;
  const std::vector<float>& scores_;
  std::string_view text_;
  std::vector<Symbol> symbols_;
  std::vector<Pair> queue_;
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
    Merger merger(ids_, scores_);
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
    const auto emit = [&](std::string_view symbol) { EmitSymbol(symbol, ids); };
    size_t begin = 0;
    std::string_view left;
    for (size_t at = 0; at < text.size();) {
      const std::string_view right = text.substr(at, CharBytesAt(text, at));
      if (!left.empty() && !neighbours_.Contains(left, right)) {
        merger.Run(text.substr(begin, at - begin), emit);
        begin = at;
      }
      left = right;
      at += right.size();
    }
    merger.Run(text.substr(begin), emit);
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
  Merger::TokenMap ids_;
  NeighbourTable neighbours_;
  std::array<int32_t, 256> byte_tokens_{};
  int32_t unknown_ = -1;
};

}  // namespace

std::unique_ptr<TextTokenizer::Encoder> MakeSpmEncoder(const Tokenizer& tokenizer) {
  return std::make_unique<SpmEncoder>(tokenizer);
}

}  // namespace quern
