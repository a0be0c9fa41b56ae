#include "formats/core/metadata.h"

#include <fmt/format.h>

#include "formats/core/bytes.h"
#include "formats/core/error.h"

namespace quern {
namespace {

std::string ScalarToString(MetadataType type, uint64_t bits) {
  switch (type) {
    case MetadataType::kUint8:
    case MetadataType::kUint16:
    case MetadataType::kUint32:
    case MetadataType::kUint64:
      return fmt::format("{}", bits);
    case MetadataType::kInt8:
    case MetadataType::kInt16:
    case MetadataType::kInt32:
    case MetadataType::kInt64:
      return fmt::format("{}", static_cast<int64_t>(bits));
    case MetadataType::kFloat32:
      return fmt::format("{}", std::bit_cast<float>(static_cast<uint32_t>(bits)));
    case MetadataType::kFloat64:
      return fmt::format("{}", std::bit_cast<double>(bits));
    case MetadataType::kBool:
      return bits != 0 ? "true" : "false";
    case MetadataType::kString:
    case MetadataType::kArray:
      break;
  }
  return "?";
}

uint64_t LoadScalar(MetadataType type, const uint8_t* p) {
  switch (ScalarBytes(type)) {
    case 1:
      return type == MetadataType::kInt8 ? static_cast<uint64_t>(LoadLE<int8_t>(p)) : *p;
    case 2:
      return type == MetadataType::kInt16 ? static_cast<uint64_t>(LoadLE<int16_t>(p))
                                          : LoadLE<uint16_t>(p);
    case 4:
      return type == MetadataType::kInt32 ? static_cast<uint64_t>(LoadLE<int32_t>(p))
                                          : LoadLE<uint32_t>(p);
    default:
      return LoadLE<uint64_t>(p);
  }
}

}  // namespace

std::string_view NameOf(MetadataType type) {
  constexpr std::string_view kNames[] = {"UINT8",  "INT8",    "UINT16", "INT16",  "UINT32",
                                         "INT32",  "FLOAT32", "BOOL",   "STRING", "ARRAY",
                                         "UINT64", "INT64",   "FLOAT64"};
  return kNames[static_cast<size_t>(type)];
}

std::string MetadataValue::ToString(size_t max_bytes) const {
  if (type == MetadataType::kString) return Quoted(text(), max_bytes);
  if (type != MetadataType::kArray) return ScalarToString(type, bits());
  const MetadataArray& items = array();
  std::string out = fmt::format("{}[{}]: ", NameOf(items.elem_type), items.size());
  for (uint64_t i = 0; i < items.size(); ++i) {
    if (i != 0) out += ", ";
    if (out.size() > max_bytes) return out + "…";
    const size_t width = ScalarBytes(items.elem_type);
    out += items.elem_type == MetadataType::kString
               ? Quoted(items.strings[i], max_bytes)
               : ScalarToString(items.elem_type,
                                LoadScalar(items.elem_type, &items.scalars[i * width]));
  }
  return out;
}

}  // namespace quern
