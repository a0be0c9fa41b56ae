#include "verify/distortion.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/verify/memory_store.h"

namespace quern {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr double kInfinite = std::numeric_limits<double>::infinity();

TEST(SumErrors, FiguresOfFourNumbersByHand) {
  // Differences 0, 1, 0, -2: 5 in all; squares of x 1 + 9 + 16 + 4 = 30, of y 1 + 4 + 16 + 16 = 37;
  // products 1 + 6 + 16 + 8 = 31.
  const float x[] = {1, 3, 4, 2}, y[] = {1, 2, 4, 4};
  const ErrorSums sums = SumErrors(x, y, 4);
  EXPECT_EQ(sums.error2, 5);
  EXPECT_EQ(sums.reference2, 30);
  EXPECT_EQ(sums.other2, 37);
  EXPECT_EQ(sums.product, 31);
  EXPECT_EQ(sums.max_error, 2);
  EXPECT_NEAR(sums.RelativeRmse(), 0.408248290463863, 1e-14);  // sqrt(1/6)
  EXPECT_NEAR(sums.SqnrDb(), 7.781512503836436, 1e-13);        // 10 log10 6
  EXPECT_NEAR(sums.Cosine(), 0.930465349, 1e-9);               // 31 / sqrt(1110)
}

TEST(SumErrors, ZerosHaveFiguresToo) {
  const float zero[] = {0, 0}, one[] = {1, 1};
  const ErrorSums same = SumErrors(zero, zero, 2);
  EXPECT_EQ(same.RelativeRmse(), 0);
  EXPECT_EQ(same.SqnrDb(), kInfinite);
  EXPECT_EQ(same.Cosine(), 1);
  const ErrorSums from_zero = SumErrors(zero, one, 2);
  EXPECT_EQ(from_zero.RelativeRmse(), kInfinite);
  EXPECT_EQ(from_zero.SqnrDb(), -kInfinite);
  EXPECT_EQ(from_zero.Cosine(), 0);
  const ErrorSums to_zero = SumErrors(one, zero, 2);
  EXPECT_EQ(to_zero.RelativeRmse(), 1);
  EXPECT_EQ(to_zero.SqnrDb(), 0);
  EXPECT_EQ(to_zero.Cosine(), 0);
}

TEST(SumErrors, WhatIsNotFiniteIsNaNEverywhere) {
  for (const float odd : {kNaN, kInf, -kInf}) {
    const float x[] = {1, odd, 1}, y[] = {1, 1, 1};
    for (const ErrorSums& sums : {SumErrors(x, y, 3), SumErrors(y, x, 3), SumErrors(x, x, 3)}) {
      EXPECT_TRUE(std::isnan(sums.RelativeRmse()));
      EXPECT_TRUE(std::isnan(sums.SqnrDb()));
      EXPECT_TRUE(std::isnan(sums.Cosine()));
      EXPECT_TRUE(std::isnan(sums.max_error));
    }
  }
  // The largest numbers do not overflow.
  const float large[] = {3e38f, -3e38f}, opposite[] = {-3e38f, 3e38f};
  EXPECT_EQ(SumErrors(large, opposite, 2).RelativeRmse(), 2);
}

TEST(MeasureDistortion, TensorsAreMatchedByName) {
  MemoryStore a, b;
  a.AddF32("first", Shape{2, 2}, {1, 3, 4, 2});
  a.AddF32("second", Shape{2}, {1, 2});
  b.AddF32("second", Shape{2}, {1, 2});
  b.AddF32("first", Shape{2, 2}, {1, 2, 4, 4});
  const Distortion distortion = MeasureDistortion(a, b, {});
  EXPECT_TRUE(distortion.findings.empty());
  ASSERT_EQ(distortion.tensors.size(), 2u);
  const TensorDistortion& first = distortion.tensors[0];
  EXPECT_EQ(first.name, "first");
  EXPECT_EQ(first.n_elems, 4u);
  EXPECT_EQ(first.sums.error2, 5);
  EXPECT_EQ(first.worst_row, 1u);  // 4 of 20 against 1 of 10
  EXPECT_NEAR(first.worst_row_relative_rmse, std::sqrt(0.2), 1e-15);
  EXPECT_EQ(distortion.tensors[1].sums.RelativeRmse(), 0);
  EXPECT_EQ(distortion.total.error2, 5);
  EXPECT_EQ(distortion.total.reference2, 35);
}

TEST(MeasureDistortion, BlocksAreDecoded) {
  MemoryStore a, b;
  a.AddF32("q", Shape{1, 32}, std::vector<float>(32, 1.0f));
  std::vector<uint8_t> block(34, 3);  // 32 codes of 3 under a scale of 0.5
  block[0] = 0x00;
  block[1] = 0x38;
  b.Add("q", DType::kQ8_0, Shape{1, 32}, std::move(block));
  const Distortion distortion = MeasureDistortion(a, b, {});
  ASSERT_EQ(distortion.tensors.size(), 1u);
  EXPECT_EQ(distortion.tensors[0].reference_type, DType::kF32);
  EXPECT_EQ(distortion.tensors[0].other_type, DType::kQ8_0);
  EXPECT_EQ(distortion.tensors[0].sums.max_error, 0.5);
  EXPECT_EQ(distortion.tensors[0].sums.RelativeRmse(), 0.5);
}

TEST(MeasureDistortion, SaysWhatCannotBeCompared) {
  MemoryStore a, b;
  a.AddF32("only a", Shape{1}, {1});
  a.AddF32("shape", Shape{2, 1}, {1, 1});
  a.Add("ids", DType::kI32, Shape{1}, std::vector<uint8_t>(4));
  a.AddF32("odd", Shape{3, 1}, {1, kInf, kNaN});
  a.AddF32("empty", Shape{0, 4}, {});
  b.AddF32("only b", Shape{1}, {1});
  b.AddF32("shape", Shape{1, 2}, {1, 1});
  b.Add("ids", DType::kI32, Shape{1}, std::vector<uint8_t>(4));
  b.AddF32("odd", Shape{3, 1}, {1, 1, 1});
  b.AddF32("empty", Shape{0, 4}, {});
  const Distortion distortion = MeasureDistortion(a, b, {});
  ASSERT_EQ(distortion.findings.size(), 5u);
  EXPECT_NE(distortion.findings[0].line.find("'only a'"), std::string::npos);
  EXPECT_EQ(distortion.findings[0].id, "diff.missing");
  EXPECT_EQ(distortion.findings[1].id, "diff.shape");
  EXPECT_NE(distortion.findings[1].line.find("found [1, 2], expected [2, 1]"), std::string::npos);
  EXPECT_EQ(distortion.findings[2].id, "diff.not-decoded");
  EXPECT_EQ(distortion.findings[2].severity, Finding::Severity::kNote);
  EXPECT_NE(distortion.findings[3].line.find("'only b'"), std::string::npos);
  EXPECT_EQ(distortion.findings[4].id, "diff.non-finite");
  EXPECT_NE(distortion.findings[4].line.find("tensor 'odd', first at row 1"), std::string::npos);
  ASSERT_EQ(distortion.tensors.size(), 2u);
  EXPECT_TRUE(std::isnan(distortion.tensors[0].worst_row_relative_rmse));
  EXPECT_EQ(distortion.tensors[1].sums.RelativeRmse(), 0);
}

TEST(MeasureDistortion, TheSameBitsOnAnyThreadsAndInAnyMemory) {
  // Many bands: 40 rows of 256 KiB a side, numbers that do not add exactly.
  const uint64_t rows = 40, cols = uint64_t{1} << 16;
  std::vector<float> x(rows * cols), y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(i % 1009) / 997.0f - 0.5f;
    y[i] = x[i] + static_cast<float>(i % 31) / 4093.0f;
  }
  MemoryStore a, b;
  a.AddF32("m", Shape{rows, cols}, x);
  b.AddF32("m", Shape{rows, cols}, y);
  const Distortion once = MeasureDistortion(a, b, {.threads = 1});
  const Distortion again =
      MeasureDistortion(a, b, {.threads = 7, .memory_bytes = uint64_t{6} << 20});
  EXPECT_EQ(once.tensors[0].sums.error2, again.tensors[0].sums.error2);
  EXPECT_EQ(once.tensors[0].sums.product, again.tensors[0].sums.product);
  EXPECT_EQ(once.tensors[0].worst_row, again.tensors[0].worst_row);
  EXPECT_GT(once.tensors[0].sums.RelativeRmse(), 0);
}

TEST(MeasureDistortion, ErrorsOfReadingArriveAndMemoryIsBounded) {
  MemoryStore a, b;
  a.AddF32("m", Shape{1}, {1});
  b.AddF32("m", Shape{1}, {1});
  EXPECT_THROW(MeasureDistortion(a, b, {.memory_bytes = 1000}), Error);
  b.unreadable = "m";
  try {
    MeasureDistortion(a, b, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "zip.crc");
  }
}

}  // namespace
}  // namespace quern
