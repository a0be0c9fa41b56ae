#include "formats/core/shape.h"

#include <gtest/gtest.h>

#include <vector>

#include "formats/core/checked.h"

namespace quern {
namespace {

TEST(Shape, RowsAndCols) {
  const Shape matrix{3, 5};
  EXPECT_EQ(matrix.rows(), 3u);
  EXPECT_EQ(matrix.cols(), 5u);
  EXPECT_EQ((Shape{7}).rows(), 1u);
  EXPECT_EQ((Shape{7}).cols(), 7u);
  EXPECT_EQ(Shape().n_elems(), 1u);
  EXPECT_EQ((Shape{2, 3, 4}).rows(), 6u);
  EXPECT_EQ((Shape{8, 0}).n_elems(), 0u);
  EXPECT_EQ(matrix.ToString(), "[3, 5]");
}

TEST(Shape, RefusesWhatDoesNotFit) {
  const auto make = [](std::vector<uint64_t> dims) { return Shape::Make(dims).has_value(); };
  EXPECT_FALSE(make({uint64_t{1} << 32, uint64_t{1} << 32}));
  EXPECT_FALSE(make({uint64_t{1} << 63}));
  EXPECT_FALSE(make({0, uint64_t{1} << 40, uint64_t{1} << 40}));
  EXPECT_FALSE(make({1, 1, 1, 1, 1}));
  EXPECT_TRUE(make({uint64_t{1} << 62}));
}

TEST(Checked, ReportsOverflow) {
  EXPECT_EQ(CheckedAdd(~uint64_t{0}, 1), std::nullopt);
  EXPECT_EQ(CheckedMul(uint64_t{1} << 33, uint64_t{1} << 31), std::nullopt);
  EXPECT_EQ(CheckedAlignUp(~uint64_t{0} - 3, 32), std::nullopt);
  EXPECT_EQ(CheckedAlignUp(33, 32), 64u);
  EXPECT_FALSE(FitsWithin(~uint64_t{0}, 2, 100));
  EXPECT_FALSE(FitsWithin(99, 2, 100));
  EXPECT_TRUE(FitsWithin(100, 0, 100));
}

}  // namespace
}  // namespace quern
