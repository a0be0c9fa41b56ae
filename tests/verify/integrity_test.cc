#include "verify/integrity.h"

#include <gtest/gtest.h>

#include <limits>

#include "tests/verify/memory_store.h"

namespace quern {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(CheckWeights, SoundModelsHaveNoFindings) {
  MemoryStore store;
  store.AddF32("a", 3, 5, {});
  store.AddF32("empty", 0, 5, {});
  EXPECT_TRUE(CheckWeights(store, {}).empty());
}

TEST(CheckWeights, CountsAndPlacesEveryNonFiniteWeight) {
  MemoryStore store;
  // Wide enough for many bands: four rows of 2 MiB.
  const uint64_t cols = uint64_t{1} << 19;
  store.AddF32("wide", 4, cols, {{cols * 2 + 7, kInf}, {cols * 3, kNaN}, {cols * 3 + 1, -kInf}});
  store.AddF32("fine", 2, 2, {});
  store.AddF32("small", 2, 2, {{3, kNaN}});
  for (const unsigned threads : {1u, 2u, 7u}) {
    const auto findings = CheckWeights(store, {.threads = threads});
    ASSERT_EQ(findings.size(), 2u);
    EXPECT_EQ(findings[0].line,
              "shard.pth: 3 weights are NaN or infinite, tensor 'wide', first at row 2, column 7 "
              "(byte offset 1027), found inf, expected finite values [check.non-finite]");
    EXPECT_NE(findings[1].line.find("tensor 'small', first at row 1, column 1"), std::string::npos);
    EXPECT_EQ(findings[1].severity, Finding::Severity::kError);
  }
}

TEST(CheckWeights, SeesNonFiniteScalesOfBlocks) {
  MemoryStore store;
  std::vector<uint8_t> blocks(2 * 34, 1);
  blocks[34] = 0x00;
  blocks[35] = 0x7C;  // The second block's scale is infinite.
  store.Add("q", DType::kQ8_0, Shape{1, 64}, std::move(blocks));
  const auto findings = CheckWeights(store, {});
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_NE(findings[0].line.find("32 weights"), std::string::npos);
  EXPECT_NE(findings[0].line.find("column 32"), std::string::npos);
}

TEST(CheckWeights, GoesOnBehindWhatCannotBeRead) {
  MemoryStore store;
  store.AddF32("a", 2, 2, {});
  store.AddF32("b", 2, 2, {{0, kNaN}});
  store.unreadable = "a";
  const auto findings = CheckWeights(store, {});
  ASSERT_EQ(findings.size(), 2u);
  EXPECT_EQ(findings[0].id, "zip.crc");
  EXPECT_EQ(findings[1].id, "check.non-finite");
}

TEST(CheckWeights, NamesTypesItCannotDecode) {
  MemoryStore store;
  store.Add("i", DType::kI32, Shape{4}, std::vector<uint8_t>(16));
  const auto findings = CheckWeights(store, {});
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].severity, Finding::Severity::kNote);
}

// What nobody decodes is read too: its bytes may be damaged.
TEST(CheckWeights, ReadsTypesItCannotDecode) {
  MemoryStore store;
  store.Add("i", DType::kI32, Shape{4}, std::vector<uint8_t>(16));
  store.unreadable = "i";
  const auto findings = CheckWeights(store, {});
  ASSERT_EQ(findings.size(), 2u);
  EXPECT_EQ(findings[0].id, "zip.crc");
}

// A damaged segment of a QPACK keeps all tensors in it from being read, with one message.
TEST(CheckWeights, SaysOnceWhatKeepsManyFromBeingRead) {
  MemoryStore store;
  for (const char* name : {"a", "b", "c"}) store.AddF32(name, 2, 2, {});
  store.all_unreadable = true;
  const auto findings = CheckWeights(store, {});
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].id, "zip.crc");
}

TEST(CheckWeights, SaysWhatMemoryItNeeds) {
  MemoryStore store;
  store.AddF32("a", 2, 2, {});
  try {
    CheckWeights(store, {.memory_bytes = 1000});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kMemory);
  }
}

}  // namespace
}  // namespace quern
