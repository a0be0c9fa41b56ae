// The merge loop that both kinds of BPE share: always the best adjacent pair next.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace quern {

// A piece of text under way to being a token.
struct TextSymbol {
  uint32_t begin = 0;
  uint32_t size = 0;  // bytes; 0: merged into its left neighbour
  uint32_t id = 0;    // whatever the rules call it
  uint32_t prev = 0, next = 0;  // of the first and behind the last: out of range
};

// What becomes of two adjacent symbols, and how soon: the smallest priority first, from the left
// among equals.
template <typename Priority>
struct SymbolMerge {
  Priority priority;
  uint32_t id;
};

// `Rules` has a type Priority and
//   std::optional<SymbolMerge<Priority>> Find(std::string_view both, const TextSymbol& left,
//                                             const TextSymbol& right) const;
// Buffers are used again from text to text.
// Cost: time in proportion to the number of symbols and its logarithm, memory to the symbols.
template <typename Rules>
class PairMerger {
 public:
  // Requires: `rules` outlives the object.
  explicit PairMerger(const Rules& rules) : rules_(rules) {}

  void Clear() { symbols_.clear(); }
  // Adds a symbol of the next `size` bytes of text. Requires: less than 2^32 bytes in all.
  void Add(uint32_t size, uint32_t id) {
    const auto index = static_cast<uint32_t>(symbols_.size());
    const uint32_t begin = index == 0 ? 0 : symbols_.back().begin + symbols_.back().size;
    symbols_.push_back({begin, size, id, index - 1, index + 1});
  }

  // Merges the symbols, which stand for `text`, and calls emit(symbol) for each that is left.
  template <typename Emit>
  void Run(std::string_view text, const Emit& emit) {
    text_ = text;
    queue_.clear();
    const auto n = static_cast<uint32_t>(symbols_.size());
    for (uint32_t i = 0; i + 1 < n; ++i) Offer(i, i + 1);
    while (!queue_.empty()) MergeBest();
    for (uint32_t i = 0; i < n; i = symbols_[i].next) emit(symbols_[i]);
  }

 private:
  using Priority = typename Rules::Priority;
  struct Candidate {
    SymbolMerge<Priority> merge;
    uint32_t left, right, size;
    bool operator<(const Candidate& other) const {  // true if `other` goes first
      return merge.priority != other.merge.priority ? merge.priority > other.merge.priority
                                                    : left > other.left;
    }
  };

  void Offer(uint32_t left, uint32_t right) {
    if (left >= symbols_.size() || right >= symbols_.size()) return;
    const TextSymbol& a = symbols_[left];
    const TextSymbol& b = symbols_[right];
    const auto merge = rules_.Find(text_.substr(a.begin, a.size + b.size), a, b);
    if (!merge) return;
    queue_.push_back({*merge, left, right, a.size + b.size});
    std::push_heap(queue_.begin(), queue_.end());
  }

  void MergeBest() {
    std::pop_heap(queue_.begin(), queue_.end());
    const Candidate best = queue_.back();
    queue_.pop_back();
    TextSymbol& left = symbols_[best.left];
    TextSymbol& right = symbols_[best.right];
    // One of the two has merged with another since.
    if (left.size == 0 || right.size == 0 || left.size + right.size != best.size) return;
    left.size = best.size;
    left.id = best.merge.id;
    right.size = 0;
    left.next = right.next;
    if (right.next < symbols_.size()) symbols_[right.next].prev = best.left;
    Offer(left.prev, best.left);
    Offer(best.left, left.next);
  }

  const Rules& rules_;
  std::string_view text_;
  std::vector<TextSymbol> symbols_;
  std::vector<Candidate> queue_;
};

}  // namespace quern
