#include "formats/strided_read.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <vector>

namespace quern {
namespace {

// Counts reads, and remembers the largest.
class CountingBytes final : public RandomAccessBytes {
 public:
  explicit CountingBytes(ByteView bytes) : bytes_(bytes, "counting") {}
  uint64_t size_bytes() const override { return bytes_.size_bytes(); }
  const std::string& name() const override { return bytes_.name(); }
  void ReadAt(uint64_t offset, MutableByteView out) const override {
    ++n_reads;
    n_bytes += out.size();
    bytes_.ReadAt(offset, out);
  }
  mutable uint64_t n_reads = 0, n_bytes = 0;

 private:
  MemoryBytes bytes_;
};

struct Case {
  uint64_t offset_elems = 0;
  std::vector<uint64_t> shape, strides;
};

uint64_t RowsOf(const Case& c) {
  uint64_t rows = 1;
  for (size_t k = 0; k + 1 < c.shape.size(); ++k) rows *= c.shape[k];
  return rows;
}
uint64_t ColsOf(const Case& c) { return c.shape.empty() ? 1 : c.shape.back(); }

// Returns the bytes of the rows, element by element.
std::vector<uint8_t> Expected(ByteView file, const Case& c, uint32_t elem_bytes, uint64_t begin,
                              uint64_t count) {
  std::vector<uint8_t> out;
  for (uint64_t row = begin; row < begin + count; ++row) {
    for (uint64_t col = 0; col < ColsOf(c); ++col) {
      uint64_t at = c.offset_elems;
      if (!c.shape.empty()) at += col * c.strides.back();
      uint64_t rest = row;
      for (size_t k = c.shape.size(); k-- > 1;) {
        at += rest % c.shape[k - 1] * c.strides[k - 1];
        rest /= c.shape[k - 1];
      }
      const auto element = file.subspan(at * elem_bytes, elem_bytes);
      out.insert(out.end(), element.begin(), element.end());
    }
  }
  return out;
}

void ExpectRows(const CountingBytes& bytes, ByteView file, const Case& c, uint32_t elem_bytes,
                uint64_t begin, uint64_t count) {
  const StridedView view{c.offset_elems * elem_bytes, elem_bytes, c.shape, c.strides};
  std::vector<uint8_t> out(count * ColsOf(c) * elem_bytes);
  ReadStridedRows(bytes, view, begin, count, out);
  EXPECT_TRUE(out == Expected(file, c, elem_bytes, begin, count))
      << "rows " << begin << " + " << count << " of " << ::testing::PrintToString(c.shape)
      << " strides " << ::testing::PrintToString(c.strides);
}

std::vector<uint8_t> RandomBytes(size_t n) {
  std::mt19937 random(7);
  std::vector<uint8_t> bytes(n);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

TEST(StridedReadTest, EveryKindOfSmallView) {
  const std::vector<uint8_t> file = RandomBytes(1 << 14);
  const CountingBytes bytes(file);
  const std::vector<Case> cases = {
      {3, {}, {}},  // a scalar
      {0, {5}, {1}},
      {2, {5}, {3}},  // vectors
      {0, {5}, {0}},  // expanded scalar
      {0, {3, 4}, {4, 1}},
      {0, {4, 3}, {1, 4}},  // a matrix and its transpose
      {1, {3, 2}, {4, 1}},  // a slice of columns
      {0, {3, 4}, {0, 1}},
      {0, {3, 4}, {1, 0}},  // expanded along each axis
      {0, {3, 4}, {0, 0}},
      {0, {2, 3, 4}, {12, 4, 1}},
      {0, {3, 2, 4}, {4, 12, 1}},
      {0, {4, 3, 2}, {1, 4, 12}},
      {0, {2, 3, 4}, {1, 8, 2}},
      {0, {1, 3, 1, 4}, {99, 4, 7, 1}},  // strides of single elements do not count
      {0, {2, 2, 2, 2, 2, 2, 2, 2}, {128, 64, 32, 16, 8, 4, 2, 1}},
      {0, {2, 2, 2, 2, 2, 2, 2, 2}, {1, 2, 4, 8, 16, 32, 64, 128}},
      {0, {4, 4}, {1, 1}},  // overlapping windows
  };
  for (const Case& c : cases) {
    for (const uint32_t elem_bytes : {1u, 2u, 4u, 8u, 16u}) {
      const uint64_t rows = RowsOf(c);
      for (uint64_t begin = 0; begin < rows; ++begin) {
        for (uint64_t count = 0; begin + count <= rows; count += 1 + count / 4) {
          ExpectRows(bytes, file, c, elem_bytes, begin, count);
        }
      }
    }
  }
}

TEST(StridedReadTest, RandomViews) {
  const std::vector<uint8_t> file = RandomBytes(1 << 16);
  const CountingBytes bytes(file);
  std::mt19937 random(11);
  for (int round = 0; round < 2000; ++round) {
    Case c;
    uint64_t last = 0;
    const size_t rank = random() % 5;
    for (size_t k = 0; k < rank; ++k) {
      c.shape.push_back(1 + random() % 6);
      c.strides.push_back(random() % 40);
      last += (c.shape[k] - 1) * c.strides[k];
    }
    c.offset_elems = random() % 100;
    ASSERT_LT((c.offset_elems + last) * 8, file.size());
    const uint64_t begin = random() % RowsOf(c);
    ExpectRows(bytes, file, c, 8, begin, 1 + random() % (RowsOf(c) - begin));
  }
}

TEST(StridedReadTest, LargeViewsAreReadInFewAndBoundedPieces) {
  const std::vector<uint8_t> file = RandomBytes(size_t{6} << 20);
  CountingBytes bytes(file);
  const auto reads_of = [&](const Case& c, uint32_t elem_bytes, uint64_t begin, uint64_t count) {
    bytes.n_reads = bytes.n_bytes = 0;
    ExpectRows(bytes, file, c, elem_bytes, begin, count);
    return bytes.n_reads;
  };
  // Contiguous: one read, also across merged dimensions.
  EXPECT_EQ(reads_of({0, {1500, 2000}, {2000, 1}}, 2, 0, 1500), 1u);
  EXPECT_EQ(reads_of({0, {15, 100, 2000}, {200000, 2000, 1}}, 2, 150, 901), 1u);
  // Half of the columns: windows, not rows.
  EXPECT_LE(reads_of({0, {1500, 1000}, {2000, 1}}, 2, 0, 1500), 8u);
  // Few columns of long rows: one small read per row.
  EXPECT_EQ(reads_of({0, {15, 10}, {200000, 1}}, 2, 0, 15), 15u);
  EXPECT_EQ(bytes.n_bytes, 15u * 10 * 2);
  // Transposed: all rows in windows, a band of rows column by column.
  EXPECT_LE(reads_of({0, {2000, 1500}, {1, 2000}}, 2, 0, 2000), 8u);
  EXPECT_EQ(reads_of({0, {20000, 150}, {1, 20000}}, 2, 100, 50), 150u);
  EXPECT_EQ(bytes.n_bytes, 150u * 50 * 2);
  // One row of a transposed matrix: elements far apart, read one by one.
  EXPECT_EQ(reads_of({0, {20000, 150}, {1, 20000}}, 2, 7, 1), 150u);
  // A line longer than a window.
  EXPECT_LE(reads_of({0, {1, 1500000}, {1, 2}}, 2, 0, 1), 7u);
  EXPECT_EQ(reads_of({0, {1000, 3000}, {0, 1}}, 2, 0, 1000), 1u);
}

}  // namespace
}  // namespace quern
