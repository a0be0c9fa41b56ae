// JSON with limits: side files of checkpoints, and the header of safetensors.
//
// The text must be UTF-8 (escapes included), nested at most 64 deep, without duplicate keys.
// Numbers keep their kind: -1 never becomes 2^64-1, 1.5 never 1. A parsed document takes 8 bytes per
// value and key (16 for numbers below 0, fractions, and those from 2^60 on) and one copy of the
// strings: at most 24 MB + the size of the text.
// Source: RFC 8259.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace quern {

inline constexpr unsigned kJsonMaxDepth = 64;
// How many values and keys any document may have; larger ones may have one more per 8 bytes.
inline constexpr uint64_t kJsonFreeValues = 3'000'000;
inline constexpr uint64_t kJsonMaxStringBytes = uint64_t{4} << 20;

struct JsonTape;  // the parsed document, in json_limits.cc

// One value of a parsed document. A small handle that shares the document: copy it freely.
class JsonValue {
 public:
  // kUint is an integer in [0, 2^64), kInt one in [-2^63, 0); every other number is kDouble, also
  // those written with a point or an exponent and those beyond 64 bits.
  enum class Kind : uint8_t { kNull, kBool, kUint, kInt, kDouble, kString, kArray, kObject };
  class Items;

  Kind kind() const;
  bool is_object() const { return kind() == Kind::kObject; }
  bool is_array() const { return kind() == Kind::kArray; }
  bool is_string() const { return kind() == Kind::kString; }

  // Each requires the kind it names (Number: any of the three kinds of numbers).
  bool Bool() const;
  uint64_t Uint() const;
  int64_t Int() const;
  double Number() const;
  std::string_view String() const;  // valid as long as any value of the document lives

  // Returns the number of elements or members. Requires: an array or an object.
  size_t size() const;
  // Returns the elements or members, in file order:
  //   for (const auto& [key, value] : json.items()) …
  // Requires: an array (keys are empty) or an object.
  Items items() const;
  // Returns the member with that key, or nothing. Requires: an object. Cost: linear in size().
  std::optional<JsonValue> Find(std::string_view key) const;

  // Returns the value as one would print it in a message: scalars as JSON (strings escaped and
  // cut), containers as "an array of 3 elements".
  std::string ToString() const;

 private:
  friend JsonValue ParseJson(std::string_view text, std::string_view file, uint64_t file_offset);
  friend class Items;
  JsonValue(std::shared_ptr<const JsonTape> tape, uint32_t index)
      : tape_(std::move(tape)), index_(index) {}

  std::shared_ptr<const JsonTape> tape_;
  uint32_t index_ = 0;
};

struct JsonItem {
  std::string_view key;
  JsonValue value;
};

// The elements or members of one value.
class JsonValue::Items {
 public:
  class Iterator {
   public:
    JsonItem operator*() const;
    Iterator& operator++();
    bool operator==(const Iterator& other) const { return index_ == other.index_; }

   private:
    friend class Items;
    Iterator(const JsonValue& owner, uint32_t index) : owner_(&owner), index_(index) {}
    const JsonValue* owner_;
    uint32_t index_;
  };
  Iterator begin() const;
  Iterator end() const;

 private:
  friend class JsonValue;
  explicit Items(JsonValue owner) : owner_(std::move(owner)) {}
  JsonValue owner_;
};

// Returns the parsed document. `file` is the name for messages, and `file_offset` where in that file
// the text begins.
// Throws: Error kData "json.syntax", "json.depth", "json.duplicate-key", "text.utf8"; kUnsupported
// "json.limit" for more values, longer strings or longer gaps than any real document has.
JsonValue ParseJson(std::string_view text, std::string_view file, uint64_t file_offset = 0);

// Returns the parsed document, which must be an object. `wanted` completes "expected …".
// Throws: as ParseJson; Error kData "config.value" for other values.
JsonValue ParseJsonObject(std::string_view text, std::string_view file,
                          std::string_view wanted = "an object");

// Members of a configuration. Each throws Error kData "config.value" that names the key and the
// value found if it is of another kind; RequireX also if it is absent. OptionalX treats an absent
// key and null alike. Requires: `object` is an object.
uint64_t RequireUint(const JsonValue& object, std::string_view key, uint64_t max,
                     std::string_view file);
std::optional<uint64_t> OptionalUint(const JsonValue& object, std::string_view key, uint64_t max,
                                     std::string_view file);
double RequireDouble(const JsonValue& object, std::string_view key, std::string_view file);
std::optional<double> OptionalDouble(const JsonValue& object, std::string_view key,
                                     std::string_view file);
std::optional<bool> OptionalBool(const JsonValue& object, std::string_view key,
                                 std::string_view file);
std::optional<std::string> OptionalString(const JsonValue& object, std::string_view key,
                                          std::string_view file);
// The error behind all of them, for checks of one's own: `expected` completes "expected …".
// Throws: always, Error kData "config.value".
[[noreturn]] void ThrowConfigValue(std::string_view file, std::string_view key,
                                   std::string_view found, std::string_view expected);

// Checks that `shard`, a file name from an index, is a plain name of a file in the same folder.
// Throws: Error kData "index.path".
void CheckShardName(std::string_view shard, std::string_view index_file);

}  // namespace quern
