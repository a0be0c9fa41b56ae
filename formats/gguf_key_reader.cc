#include "formats/gguf_key_reader.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>

namespace quern {

std::optional<uint32_t> KeyReader::Uint(std::string_view key) {
  const MetadataValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != MetadataType::kUint32) throw BadType(key, "UINT32");
  return static_cast<uint32_t>(value->bits());
}

std::optional<float> KeyReader::Float(std::string_view key) {
  const MetadataValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != MetadataType::kFloat32) throw BadType(key, "FLOAT32");
  const float number = std::bit_cast<float>(static_cast<uint32_t>(value->bits()));
  if (!std::isfinite(number)) throw BadValue("value is not finite", key);
  return number;
}

std::optional<bool> KeyReader::Bool(std::string_view key) {
  const MetadataValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != MetadataType::kBool) throw BadType(key, "BOOL");
  return value->bits() != 0;
}

std::optional<std::string> KeyReader::Text(std::string_view key) {
  const MetadataValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != MetadataType::kString) throw BadType(key, "STRING");
  return value->text();
}

MetadataArray* KeyReader::Array(std::string_view key, MetadataType elem_type) {
  MetadataValue* value = Find(key);
  if (value == nullptr) return nullptr;
  if (value->type != MetadataType::kArray ||
      std::get<MetadataArray>(value->data).elem_type != elem_type) {
    throw BadType(key, fmt::format("ARRAY of {}", NameOf(elem_type)));
  }
  return &std::get<MetadataArray>(value->data);
}

}  // namespace quern
