#include "formats/core/dtype.h"

#include "formats/core/ascii.h"
#include "formats/core/checked.h"

namespace quern {
namespace {

using enum FieldKind;

constexpr BlockLayout Plain(DType id, std::string_view name, uint16_t bytes, uint32_t gguf_id) {
  return {id, name, 1, bytes, gguf_id, {{{kElement, 0, bytes}}}, 1};
}

constexpr BlockLayout kLayouts[] = {
    Plain(DType::kF32, "f32", 4, 0),
    Plain(DType::kF16, "f16", 2, 1),
    {DType::kQ4_0, "q4_0", 32, 18, 2, {{{kF16, 0, 2}, {kCodes, 2, 16}}}, 2},
    {DType::kQ4_1, "q4_1", 32, 20, 3, {{{kF16, 0, 2}, {kF16, 2, 2}, {kCodes, 4, 16}}}, 3},
    {DType::kQ5_0, "q5_0", 32, 22, 6, {{{kF16, 0, 2}, {kHighBits, 2, 4}, {kCodes, 6, 16}}}, 3},
    {DType::kQ5_1,
     "q5_1",
     32,
     24,
     7,
     {{{kF16, 0, 2}, {kF16, 2, 2}, {kHighBits, 4, 4}, {kCodes, 8, 16}}},
     4},
    {DType::kQ8_0, "q8_0", 32, 34, 8, {{{kF16, 0, 2}, {kCodes, 2, 32}}}, 2},
    {DType::kQ8_1, "q8_1", 32, 36, 9, {{{kF16, 0, 2}, {kF16, 2, 2}, {kCodes, 4, 32}}}, 3},
    {DType::kQ2_K,
     "q2_k",
     256,
     84,
     10,
     {{{kScales, 0, 16}, {kCodes, 16, 64}, {kF16, 80, 2}, {kF16, 82, 2}}},
     4},
    {DType::kQ3_K,
     "q3_k",
     256,
     110,
     11,
     {{{kHighBits, 0, 32}, {kCodes, 32, 64}, {kScales, 96, 12}, {kF16, 108, 2}}},
     4},
    {DType::kQ4_K,
     "q4_k",
     256,
     144,
     12,
     {{{kF16, 0, 2}, {kF16, 2, 2}, {kScales, 4, 12}, {kCodes, 16, 128}}},
     4},
    {DType::kQ5_K,
     "q5_k",
     256,
     176,
     13,
     {{{kF16, 0, 2}, {kF16, 2, 2}, {kScales, 4, 12}, {kHighBits, 16, 32}, {kCodes, 48, 128}}},
     5},
    {DType::kQ6_K,
     "q6_k",
     256,
     210,
     14,
     {{{kCodes, 0, 128}, {kHighBits, 128, 64}, {kScales, 192, 16}, {kF16, 208, 2}}},
     4},
    {DType::kQ8_K, "q8_k", 256, 292, 15, {{{kF32, 0, 4}, {kCodes, 4, 256}, {kOther, 260, 32}}}, 3},
    {DType::kIQ2_XXS, "iq2_xxs", 256, 66, 16, {{{kF16, 0, 2}, {kCodes, 2, 64}}}, 2},
    {DType::kIQ2_XS, "iq2_xs", 256, 74, 17, {{{kF16, 0, 2}, {kCodes, 2, 64}, {kScales, 66, 8}}}, 3},
    {DType::kIQ3_XXS,
     "iq3_xxs",
     256,
     98,
     18,
     {{{kF16, 0, 2}, {kCodes, 2, 64}, {kScales, 66, 32}}},
     3},
    {DType::kIQ1_S,
     "iq1_s",
     256,
     50,
     19,
     {{{kF16, 0, 2}, {kCodes, 2, 32}, {kHighBits, 34, 16}}},
     3},
    {DType::kIQ4_NL, "iq4_nl", 32, 18, 20, {{{kF16, 0, 2}, {kCodes, 2, 16}}}, 2},
    {DType::kIQ3_S,
     "iq3_s",
     256,
     110,
     21,
     {{{kF16, 0, 2}, {kCodes, 2, 64}, {kHighBits, 66, 8}, {kOther, 74, 32}, {kScales, 106, 4}}},
     5},
    {DType::kIQ2_S,
     "iq2_s",
     256,
     82,
     22,
     {{{kF16, 0, 2}, {kCodes, 2, 64}, {kHighBits, 66, 8}, {kScales, 74, 8}}},
     4},
    {DType::kIQ4_XS,
     "iq4_xs",
     256,
     136,
     23,
     {{{kF16, 0, 2}, {kScales, 2, 6}, {kCodes, 8, 128}}},
     3},
    Plain(DType::kI8, "i8", 1, 24),
    Plain(DType::kI16, "i16", 2, 25),
    Plain(DType::kI32, "i32", 4, 26),
    Plain(DType::kI64, "i64", 8, 27),
    Plain(DType::kF64, "f64", 8, 28),
    {DType::kIQ1_M,
     "iq1_m",
     256,
     56,
     29,
     {{{kCodes, 0, 32}, {kHighBits, 32, 16}, {kScales, 48, 8}}},
     3},
    Plain(DType::kBF16, "bf16", 2, 30),
    {DType::kTQ1_0, "tq1_0", 256, 54, 34, {{{kCodes, 0, 48}, {kCodes, 48, 4}, {kF16, 52, 2}}}, 3},
    {DType::kTQ2_0, "tq2_0", 256, 66, 35, {{{kCodes, 0, 64}, {kF16, 64, 2}}}, 2},
    {DType::kMXFP4, "mxfp4", 32, 17, 39, {{{kE8M0, 0, 1}, {kCodes, 1, 16}}}, 2},
    {DType::kNVFP4, "nvfp4", 64, 36, 40, {{{kScales, 0, 4}, {kCodes, 4, 32}}}, 2},
    {DType::kQ1_0, "q1_0", 128, 18, 41, {{{kF16, 0, 2}, {kCodes, 2, 16}}}, 2},
    {DType::kQ2_0, "q2_0", 64, 18, 42, {{{kF16, 0, 2}, {kCodes, 2, 16}}}, 2},
};

// Rows stand in enum order, and the fields of each tile its block without gap or overlap.
constexpr bool TableIsSound() {
  for (size_t i = 0; i < std::size(kLayouts); ++i) {
    const BlockLayout& row = kLayouts[i];
    if (static_cast<size_t>(row.id) != i) return false;
    uint32_t end = 0;
    for (size_t k = 0; k < row.n_fields; ++k) {
      if (row.fields_storage[k].offset_bytes != end) return false;
      end += row.fields_storage[k].size_bytes;
    }
    if (end != row.block_bytes) return false;
  }
  return true;
}
static_assert(std::size(kLayouts) == kDTypeCount);
static_assert(TableIsSound());

}  // namespace

std::span<const BlockLayout> AllLayouts() { return kLayouts; }

const BlockLayout& LayoutOf(DType type) { return kLayouts[static_cast<size_t>(type)]; }

std::optional<DType> DTypeFromGgufId(uint32_t gguf_id) {
  for (const BlockLayout& row : kLayouts) {
    if (row.gguf_id == gguf_id) return row.id;
  }
  return std::nullopt;
}

std::optional<DType> DTypeFromName(std::string_view name) {
  for (const BlockLayout& row : kLayouts) {
    if (SameIgnoringCase(row.name, name)) return row.id;
  }
  return std::nullopt;
}

std::optional<uint64_t> RowBytes(DType type, uint64_t cols) {
  const BlockLayout& layout = LayoutOf(type);
  if (cols % layout.block_elems != 0) return std::nullopt;
  return CheckedMul(cols / layout.block_elems, layout.block_bytes);
}

}  // namespace quern
