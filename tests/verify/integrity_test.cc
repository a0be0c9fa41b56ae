#include "verify/integrity.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <map>

namespace quern {
namespace {

// Tensors in memory; reading tensor `unreadable` fails.
class MemoryStore final : public TensorStore {
 public:
  void Add(const std::string& name, DType dtype, Shape shape, std::vector<uint8_t> bytes) {
    TensorInfo info;
    info.name = name;
    info.dtype = dtype;
    info.shape = shape;
    manifest_.tensors.push_back(info);
    bytes_.push_back(std::move(bytes));
  }
  void AddF32(const std::string& name, uint64_t rows, uint64_t cols,
              const std::map<uint64_t, float>& odd) {
    std::vector<float> values(rows * cols, 0.5f);
    for (const auto& [place, value] : odd) values[place] = value;
    std::vector<uint8_t> bytes(values.size() * 4);
    std::memcpy(bytes.data(), values.data(), bytes.size());
    Add(name, DType::kF32, Shape{rows, cols}, std::move(bytes));
  }
  const Manifest& manifest() const override { return manifest_; }
  const std::string& name() const override { return name_; }
  void ReadRows(size_t tensor, uint64_t begin, uint64_t count, MutableByteView out) const override {
    if (manifest_.tensors[tensor].name == unreadable) {
      throw DataError("zip.crc", "wrong sum").File(name_).Where("tensor " + unreadable);
    }
    const uint64_t row_bytes = manifest_.tensors[tensor].row_bytes();
    std::memcpy(out.data(), bytes_[tensor].data() + begin * row_bytes, count * row_bytes);
  }
  StoredPlace PlaceOf(size_t, uint64_t row, uint64_t col) const override {
    return {"shard.pth", 1000 + row * 10 + col};
  }
  std::string unreadable;

 private:
  Manifest manifest_;
  std::vector<std::vector<uint8_t>> bytes_;
  std::string name_ = "store";
};

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
