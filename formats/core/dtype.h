// The table of element types: what a container must know of a type, as data.
//
// Table order = enum order (checked at compile time). Encoding and decoding live in quant/; here is
// only the layout, so that formats/ need not know quant/.
// Source: quant/BLOCKS.md, which is normative for the layouts.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace quern {

// Names are ggml's. The order is that of the GGUF ids, without the retired ones.
enum class DType : uint8_t {
  kF32,
  kF16,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ8_1,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kQ8_K,
  kIQ2_XXS,
  kIQ2_XS,
  kIQ3_XXS,
  kIQ1_S,
  kIQ4_NL,
  kIQ3_S,
  kIQ2_S,
  kIQ4_XS,
  kI8,
  kI16,
  kI32,
  kI64,
  kF64,
  kIQ1_M,
  kBF16,
  kTQ1_0,
  kTQ2_0,
  kMXFP4,
  kNVFP4,
  kQ1_0,
  kQ2_0,
};
inline constexpr size_t kDTypeCount = 35;

// What the bytes of a field hold; QPACK splits blocks along fields, `inspect` prints them.
enum class FieldKind : uint8_t {
  kF16,       // binary16 scale or minimum
  kF32,       // binary32 scale
  kE8M0,      // power-of-two scale
  kCodes,     // packed quantization codes
  kHighBits,  // packed upper bits of codes
  kScales,    // packed sub-block scales (and minima)
  kElement,   // one plain number (types with block_elems == 1)
  kOther,     // opaque
};

struct BlockField {
  FieldKind kind;
  uint16_t offset_bytes;  // within the block
  uint16_t size_bytes;
};

struct BlockLayout {
  DType id;
  std::string_view name;  // lower case, ggml's spelling ("q4_k")
  uint32_t block_elems;   // elements per block, along the last dimension
  uint32_t block_bytes;
  uint32_t gguf_id;
  std::array<BlockField, 5> fields_storage;
  uint8_t n_fields;

  std::span<const BlockField> fields() const { return {fields_storage.data(), n_fields}; }
  double bits_per_weight() const { return 8.0 * block_bytes / block_elems; }
};

// Returns the whole table, in enum order.
std::span<const BlockLayout> AllLayouts();
// Returns the row of `type`.
const BlockLayout& LayoutOf(DType type);
// Returns the type with that GGUF id, or nothing for an unknown or retired id.
std::optional<DType> DTypeFromGgufId(uint32_t gguf_id);
// Returns the type with that name, whatever its case, or nothing.
std::optional<DType> DTypeFromName(std::string_view name);

inline std::string_view NameOf(DType type) { return LayoutOf(type).name; }
// Returns true for f32, f16, bf16 (the types that hold unquantized weights).
inline bool IsFloat(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16;
}

// Returns the bytes of one row of `cols` elements, or nothing if cols is no multiple of the block
// or the size does not fit 64 bits.
std::optional<uint64_t> RowBytes(DType type, uint64_t cols);

}  // namespace quern
