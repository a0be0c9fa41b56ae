// Finds repeated names in time and memory that no choice of names can spoil (a hash table can be
// flooded, a nested loop is quadratic).
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "formats/core/hash.h"

namespace quern {

// Returns the smallest i < n such that name_of(i) equals name_of(k) for some k < i, if there is
// one. Cost: O(n log n) comparisons, 16 bytes per name.
template <typename NameOfIndex>
std::optional<size_t> FirstDuplicate(size_t n, NameOfIndex name_of) {
  struct Entry {
    uint64_t hash;
    size_t index;
  };
  std::vector<Entry> entries;
  entries.reserve(n);
  for (size_t i = 0; i < n; ++i) entries.push_back({Xxh3(AsBytes(name_of(i))), i});
  std::sort(entries.begin(), entries.end(), [&](const Entry& a, const Entry& b) {
    if (a.hash != b.hash) return a.hash < b.hash;
    const std::string_view name_a = name_of(a.index), name_b = name_of(b.index);
    return name_a != name_b ? name_a < name_b : a.index < b.index;
  });
  std::optional<size_t> first;
  for (size_t k = 1; k < n; ++k) {
    if (entries[k].hash == entries[k - 1].hash &&
        name_of(entries[k].index) == name_of(entries[k - 1].index)) {
      first = std::min(first.value_or(entries[k].index), entries[k].index);
    }
  }
  return first;
}

}  // namespace quern
