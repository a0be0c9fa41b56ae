// Metadata that quern carries along without interpreting it: GGUF's typed key-value pairs.
// Source: GGUF specification, "metadata_kv".
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "formats/core/string_list.h"

namespace quern {

// The numbers are those of the file.
enum class MetadataType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// Returns the bytes of one scalar of `type`; 0 for strings and arrays.
constexpr uint32_t ScalarBytes(MetadataType type) {
  switch (type) {
    case MetadataType::kUint8:
    case MetadataType::kInt8:
    case MetadataType::kBool:
      return 1;
    case MetadataType::kUint16:
    case MetadataType::kInt16:
      return 2;
    case MetadataType::kUint32:
    case MetadataType::kInt32:
    case MetadataType::kFloat32:
      return 4;
    case MetadataType::kUint64:
    case MetadataType::kInt64:
    case MetadataType::kFloat64:
      return 8;
    case MetadataType::kString:
    case MetadataType::kArray:
      return 0;
  }
  return 0;
}

// Returns the specification's name: "UINT32", "STRING", …
std::string_view NameOf(MetadataType type);

struct MetadataArray {
  MetadataType elem_type = MetadataType::kUint8;  // never kArray
  std::vector<uint8_t> scalars;                   // little-endian, packed, unless strings
  StringList strings;                             // for kString
  uint64_t size() const {
    return elem_type == MetadataType::kString ? strings.size()
                                              : scalars.size() / ScalarBytes(elem_type);
  }
  bool operator==(const MetadataArray&) const = default;
};

// Scalars are kept as their bits (integers sign-extended, f32 in the low half), so that what is
// read is written back exactly.
struct MetadataValue {
  MetadataType type = MetadataType::kUint8;
  std::variant<uint64_t, std::string, MetadataArray> data;

  static MetadataValue U32(uint32_t v) { return {MetadataType::kUint32, uint64_t{v}}; }
  static MetadataValue F32(float v) {
    return {MetadataType::kFloat32, uint64_t{std::bit_cast<uint32_t>(v)}};
  }
  static MetadataValue Bool(bool v) { return {MetadataType::kBool, uint64_t{v}}; }
  static MetadataValue Text(std::string_view v) { return {MetadataType::kString, std::string(v)}; }

  uint64_t bits() const { return std::get<uint64_t>(data); }
  const std::string& text() const { return std::get<std::string>(data); }
  const MetadataArray& array() const { return std::get<MetadataArray>(data); }
  // Returns the value as one would print it: numbers, true/false, escaped text cut at `max_bytes`,
  // arrays as their type, length and first entries.
  std::string ToString(size_t max_bytes = 60) const;
  bool operator==(const MetadataValue&) const = default;
};

struct MetadataEntry {
  std::string key;
  MetadataValue value;
  bool operator==(const MetadataEntry&) const = default;
};

}  // namespace quern
