#include "formats/core/dtype.h"

#include <gtest/gtest.h>

#include <set>

namespace quern {
namespace {

TEST(DType, NamesAndIdsAreUniqueAndFound) {
  std::set<uint32_t> ids;
  for (const BlockLayout& layout : AllLayouts()) {
    EXPECT_TRUE(ids.insert(layout.gguf_id).second) << layout.name;
    EXPECT_EQ(DTypeFromGgufId(layout.gguf_id), layout.id);
    EXPECT_EQ(DTypeFromName(layout.name), layout.id);
  }
  EXPECT_EQ(DTypeFromName("Q4_K"), DType::kQ4_K);
  EXPECT_EQ(DTypeFromName("q4_kk"), std::nullopt);
}

TEST(DType, RetiredAndUnknownIdsAreRefused) {
  for (const uint32_t id : {4u, 5u, 31u, 32u, 33u, 36u, 37u, 38u, 43u, 133u, 0xFFFFFFFFu}) {
    EXPECT_EQ(DTypeFromGgufId(id), std::nullopt) << id;
  }
}

TEST(DType, RowBytes) {
  EXPECT_EQ(RowBytes(DType::kQ4_0, 64), 36u);
  EXPECT_EQ(RowBytes(DType::kQ4_0, 63), std::nullopt);
  EXPECT_EQ(RowBytes(DType::kQ6_K, 256), 210u);
  EXPECT_EQ(RowBytes(DType::kF64, uint64_t{1} << 61), std::nullopt);
}

TEST(DType, BitsPerWeight) {
  EXPECT_EQ(LayoutOf(DType::kQ4_0).bits_per_weight(), 4.5);
  EXPECT_EQ(LayoutOf(DType::kQ6_K).bits_per_weight(), 6.5625);
  EXPECT_EQ(LayoutOf(DType::kMXFP4).bits_per_weight(), 4.25);
}

}  // namespace
}  // namespace quern
