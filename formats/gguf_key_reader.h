// Access to the keys of a header, with the errors that they may give.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/core/error.h"
#include "formats/core/metadata.h"

namespace quern {

// What to do about a header that contradicts itself.
inline constexpr std::string_view kGgufHeaderHint =
    "the file is damaged or its writer wrong: fetch it again, or convert the model anew";

// Finds keys among those read, converts their values, and remembers which of them were interpreted.
class KeyReader {
 public:
  // Requires: `entries` outlives the reader; values may be moved out of it, keys not.
  KeyReader(std::vector<MetadataEntry>& entries, std::string_view file)
      : entries_(entries), file_(file), taken_(entries.size(), false) {
    for (size_t i = 0; i < entries.size(); ++i) by_key_.push_back(i);
    std::ranges::sort(by_key_, {}, [&](size_t i) -> std::string_view { return entries[i].key; });
  }

  // Returns the value of `key`, or null.
  MetadataValue* Find(std::string_view key) {
    const auto i = IndexOf(key);
    return i ? &entries_[*i].value : nullptr;
  }
  // Marks `key` as interpreted: it does not stay in Manifest::metadata.
  void Take(std::string_view key) {
    if (const auto i = IndexOf(key)) taken_[*i] = true;
  }
  bool IsTaken(size_t i) const { return taken_[i]; }

  Error Bad(std::string_view id, std::string_view what, std::string_view key) const {
    return DataError(id, what)
        .File(Escaped(file_, 4096))
        .Where("key " + Quoted(key))
        .Hint(kGgufHeaderHint);
  }
  Error BadValue(std::string_view what, std::string_view key) {
    Error error = Bad("model.value", what, key);
    if (const MetadataValue* value = Find(key)) error.Found(value->ToString());
    return error;
  }
  Error BadType(std::string_view key, std::string_view expected) {
    return Bad("gguf.key-type", "value has the wrong type", key)
        .Found(NameOf(Find(key)->type))
        .Expected(expected);
  }

  // Each returns the value of a key, or nothing if the key is absent. The type must be the very one
  // that the specification names: llama.cpp takes no other either.
  std::optional<uint32_t> Uint(std::string_view key);
  std::optional<float> Float(std::string_view key);
  std::optional<bool> Bool(std::string_view key);
  std::optional<std::string> Text(std::string_view key);
  // Returns the array of that element type, or null.
  MetadataArray* Array(std::string_view key, MetadataType elem_type);

 private:
  std::optional<size_t> IndexOf(std::string_view key) const {
    const auto it = std::ranges::lower_bound(
        by_key_, key, {}, [&](size_t i) -> std::string_view { return entries_[i].key; });
    return it != by_key_.end() && entries_[*it].key == key ? std::optional(*it) : std::nullopt;
  }

  std::vector<MetadataEntry>& entries_;
  std::string_view file_;
  std::vector<size_t> by_key_;
  std::vector<bool> taken_;
};

}  // namespace quern
