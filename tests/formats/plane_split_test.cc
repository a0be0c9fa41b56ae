#include "formats/plane_split.h"

#include <gtest/gtest.h>

#include <bit>
#include <vector>

#include "tests/formats/gguf_builder.h"

namespace quern {
namespace {

using testing::Bytes;
using testing::Pattern;

// The planes of `blocks`, field by field and byte by byte, from the table of layouts alone.
Bytes PlanesOf(const BlockLayout& layout, const Bytes& blocks) {
  Bytes out;
  const size_t n = blocks.size() / layout.block_bytes;
  const bool is_integer = layout.name.starts_with('i') && layout.block_elems == 1;
  for (const BlockField& field : layout.fields()) {
    const bool is_number = field.kind == FieldKind::kF16 || field.kind == FieldKind::kF32 ||
                           field.kind == FieldKind::kElement;
    if (!is_number || field.size_bytes == 1) {
      for (size_t i = 0; i < n; ++i) {
        const auto begin =
            blocks.begin() + static_cast<ptrdiff_t>(i * layout.block_bytes + field.offset_bytes);
        out.insert(out.end(), begin, begin + field.size_bytes);
      }
      continue;
    }
    const uint32_t bits = 8u * field.size_bytes;
    for (uint32_t k = 0; k < field.size_bytes; ++k) {
      for (size_t i = 0; i < n; ++i) {
        uint64_t x = 0;
        std::memcpy(&x, &blocks[i * layout.block_bytes + field.offset_bytes], field.size_bytes);
        if (!is_integer) x = x << 1 | x >> (bits - 1);
        out.push_back(static_cast<uint8_t>(x >> 8 * k));
      }
    }
  }
  return out;
}

TEST(PlaneSplit, SplitsAndJoinsEveryType) {
  for (const BlockLayout& layout : AllLayouts()) {
    SCOPED_TRACE(std::string(layout.name));
    const PlaneSplit& split = PlaneSplit::Of(layout.id);
    ASSERT_EQ(split.block_bytes(), layout.block_bytes);
    for (const size_t n : {size_t{1}, size_t{2}, size_t{17}, size_t{1000}}) {
      const Bytes blocks = Pattern(n * layout.block_bytes);
      Bytes planes(blocks.size()), again(blocks.size());
      split.Split(blocks, planes);
      EXPECT_EQ(planes, PlanesOf(layout, blocks));
      std::array<const uint8_t*, PlaneSplit::kMaxPlanes> pointers{};
      const uint8_t* at = planes.data();
      for (size_t i = 0; i < split.n_planes(); ++i) {
        pointers[i] = at;
        at += split.plane_bytes(i, n);
      }
      EXPECT_EQ(at, planes.data() + planes.size());
      split.Join(pointers, again);
      EXPECT_EQ(again, blocks);
    }
  }
}

// The exponent of a bf16 is a byte of its own, the sign goes with the mantissa.
TEST(PlaneSplit, TheExponentStandsAlone) {
  const auto bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(-1.5f) >> 16);
  Bytes block(2), planes(2);
  StoreLE(block.data(), bits);
  PlaneSplit::Of(DType::kBF16).Split(block, planes);
  EXPECT_EQ(planes, (Bytes{0b10000001, 127}));
}

}  // namespace
}  // namespace quern
