// Finds a text in a list in time and memory that no choice of texts can spoil: a hash table that a
// file fills can be flooded. (formats/duplicates.h finds repeated ones.)
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

#include "formats/core/bytes.h"
#include "formats/core/hash.h"

namespace quern {

// An index of `List`, which has size() and operator[] that gives a std::string_view (or converts to
// one). Null views are places without a text and are never found.
// Cost: 12 bytes per text, 16 while it is made.
template <typename List>
class TextIndex {
 public:
  // Requires: `list` outlives the index and does not change; it has fewer than 2^31 texts.
  explicit TextIndex(const List& list)
      : list_(&list), shift_(64 - std::max(1, static_cast<int>(std::bit_width(list.size())) - 1)) {
    starts_.resize((size_t{1} << (64 - shift_)) + 1);
    const auto for_each = [&](auto take) {
      for (uint32_t i = 0; i < list.size(); ++i) {
        const std::string_view text = list[i];
        if (text.data() != nullptr) take(i, Xxh3(AsBytes(text)));
      }
    };
    for_each([&](uint32_t, uint64_t hash) { ++starts_[BucketOf(hash) + 1]; });
    for (size_t i = 1; i < starts_.size(); ++i) starts_[i] += starts_[i - 1];
    entries_.resize(starts_.back());
    std::vector<uint32_t> next(starts_.begin(), starts_.end() - 1);
    for_each([&](uint32_t i, uint64_t hash) {
      entries_[next[BucketOf(hash)]++] = {static_cast<uint32_t>(hash), i};
    });
    // Within a bucket by hash, then by text: also a bucket that was flooded is searched in halves.
    for (size_t bucket = 0; bucket + 1 < starts_.size(); ++bucket) {
      std::sort(entries_.begin() + starts_[bucket], entries_.begin() + starts_[bucket + 1],
                [&](const Entry& a, const Entry& b) { return KeyOf(a) < KeyOf(b); });
    }
  }

  // Returns the first place of the text, or nothing.
  std::optional<uint32_t> Find(std::string_view text) const {
    const uint64_t hash = Xxh3(AsBytes(text));
    const size_t bucket = BucketOf(hash);
    const auto end = entries_.begin() + starts_[bucket + 1];
    const auto it = std::lower_bound(
        entries_.begin() + starts_[bucket], end, std::tuple(static_cast<uint32_t>(hash), text, 0u),
        [&](const Entry& entry, const auto& key) { return KeyOf(entry) < key; });
    if (it == end || it->hash != static_cast<uint32_t>(hash)) return std::nullopt;
    return TextOf(*it) == text ? std::optional(it->index) : std::nullopt;
  }
  bool Has(std::string_view text) const { return Find(text).has_value(); }

 private:
  struct Entry {
    uint32_t hash, index;  // the lower half of the hash; the upper one chose the bucket
  };
  size_t BucketOf(uint64_t hash) const { return static_cast<size_t>(hash >> shift_); }
  std::string_view TextOf(const Entry& entry) const { return (*list_)[entry.index]; }
  std::tuple<uint32_t, std::string_view, uint32_t> KeyOf(const Entry& entry) const {
    return {entry.hash, TextOf(entry), entry.index};
  }

  const List* list_;
  int shift_;                     // of a hash, to its bucket
  std::vector<uint32_t> starts_;  // of the buckets in entries_, and the end
  std::vector<Entry> entries_;
};

}  // namespace quern
