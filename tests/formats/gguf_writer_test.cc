#include "formats/gguf_writer.h"

#include <fmt/format.h>

#include "formats/gguf_metadata.h"
#include "tests/formats/gguf_builder.h"
#include "tests/formats/testing.h"

namespace quern {
namespace {

using testing::ErrorOf;
using testing::InMemory;
using testing::Pattern;
using testing::SmallLlama;
using testing::WriteGguf;

TEST(GgufWriter, WritesTheBytesThatTheSpecificationAsksFor) {
  Manifest m;
  m.metadata = {{"a.u32", MetadataValue::U32(7)}};
  m.tensors = {{"t", TensorRole::kOther, {}, DType::kF16, Shape{2, 3}},
               {"u", TensorRole::kOther, {}, DType::kF32, Shape{1}}};
  std::vector<uint8_t> out;
  bool committed = false;
  const auto sink = MakeGgufWriter(std::make_unique<testing::VectorOutput>(out, &committed));
  sink->Begin(m);
  const auto data = Pattern(12), more = Pattern(4, 9);
  sink->Put({0, 0, 1, ByteView(data).first(6)});
  sink->Put({0, 1, 1, ByteView(data).last(6)});
  sink->Put({1, 0, 1, more});
  EXPECT_FALSE(committed);
  sink->Finish();
  EXPECT_TRUE(committed);
  testing::GgufBuilder b;
  b.U32("a.u32", 7).Tensor("t", {3, 2}, 1, data).Tensor("u", {1}, 0, more);
  EXPECT_EQ(out, b.Build());
}

TEST(GgufWriter, BytesDoNotDependOnTheBands) {
  const auto bytes = SmallLlama(3, 256).Build();
  const GgufFile file(InMemory(bytes));
  const auto expected = WriteGguf(file);
  EXPECT_EQ(expected.size(), GgufFileBytes(file.manifest()));
  for (const size_t band_bytes : {1U, 100U, 136U, 500U, 4096U})
    EXPECT_EQ(WriteGguf(file, band_bytes), expected);
  const auto source = ReadGgufStream(std::make_unique<testing::MemoryStream>(bytes));
  EXPECT_EQ(WriteGguf(*source, 300), expected);
}

TEST(GgufWriter, WhatIsWrittenReadsAsTheSameModel) {
  for (const uint32_t version : {1U, 2U, 3U}) {
    for (const uint64_t alignment : {1U, 8U, 32U, 64U, 4096U, 65536U}) {
      SCOPED_TRACE(fmt::format("version {}, alignment {}", version, alignment));
      const auto bytes = SmallLlama(version, alignment).Build();
      const GgufFile before(InMemory(bytes));
      const auto written = WriteGguf(before);
      EXPECT_EQ(written.size(), GgufFileBytes(before.manifest()));
      const GgufFile after(InMemory(written));
      EXPECT_EQ(after.manifest(), before.manifest());
      EXPECT_EQ(after.layout().alignment, alignment);
      EXPECT_EQ(after.layout().data_end, written.size());
      for (size_t i = 0; i < after.manifest().tensors.size(); ++i) {
        EXPECT_EQ(after.tensor_offset(i) % alignment, 0U);
        EXPECT_EQ(testing::TensorBytes(after, i), testing::TensorBytes(before, i));
      }
      EXPECT_EQ(WriteGguf(after), written);
      const auto source = ReadGgufStream(std::make_unique<testing::MemoryStream>(bytes));
      EXPECT_EQ(WriteGguf(*source, 300), written);
    }
  }
}

TEST(GgufWriter, PadsWithZeros) {
  const auto bytes = SmallLlama().Build();
  auto dirty = bytes;
  const GgufFile file(InMemory(bytes));
  // Rubbish in the padding of the input does not come through.
  size_t n_padding = 0;
  for (size_t i = 0; i < file.manifest().tensors.size(); ++i) {
    for (uint64_t k = file.tensor_offset(i) + file.manifest().tensors[i].size_bytes(); k % 32 != 0;
         ++k) {
      dirty[k] = 0xFF;
      ++n_padding;
    }
  }
  ASSERT_GT(n_padding, 0U);
  EXPECT_EQ(WriteGguf(GgufFile(InMemory(dirty))), WriteGguf(file));
}

TEST(GgufWriter, EmptyTensorsAndEmptyModels) {
  testing::GgufBuilder b;
  b.U32("general.quantization_version", 2)
      .Tensor("a", {8, 0}, 0, {})
      .Tensor("b", {2}, 0, Pattern(8))
      .Tensor("c", {0, 3}, 8, {});
  const auto bytes = b.Build();
  EXPECT_EQ(WriteGguf(GgufFile(InMemory(bytes))), bytes);
  const auto nothing = testing::GgufBuilder().Build();
  EXPECT_EQ(WriteGguf(GgufFile(InMemory(nothing))), nothing);
  EXPECT_EQ(nothing.size(), 24U);
}

TEST(GgufWriter, BandsOutOfOrderAreBugs) {
  Manifest m;
  m.tensors = {{"t", TensorRole::kOther, {}, DType::kF32, Shape{2, 2}},
               {"u", TensorRole::kOther, {}, DType::kF32, Shape{1}}};
  const auto data = Pattern(64);
  const auto ExpectBug = [&](std::vector<TensorBand> bands, bool finish) {
    std::vector<uint8_t> out;
    bool committed = false;
    const auto sink = MakeGgufWriter(std::make_unique<testing::VectorOutput>(out, &committed));
    const auto error = ErrorOf([&] {
      sink->Begin(m);
      for (const auto& band : bands) sink->Put(band);
      if (finish) sink->Finish();
    });
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code(), ErrorCode::kBug);
    EXPECT_FALSE(committed);
  };
  const auto Rows = [&](size_t n) { return ByteView(data).first(n); };
  ExpectBug({}, true);                                         // nothing came
  ExpectBug({{0, 0, 2, Rows(16)}}, true);                      // "u" did not come
  ExpectBug({{1, 0, 1, Rows(4)}}, false);                      // "u" before "t"
  ExpectBug({{0, 1, 1, Rows(8)}}, false);                      // row 1 first
  ExpectBug({{0, 0, 1, Rows(8)}, {0, 0, 1, Rows(8)}}, false);  // row 0 twice
  ExpectBug({{0, 0, 3, Rows(24)}}, false);                     // a row too many
  ExpectBug({{0, 0, 1, Rows(7)}}, false);                      // not a whole row
  ExpectBug({{0, 0, 0, {}}}, false);                           // an empty band
  ExpectBug({{0, 0, 2, Rows(16)}, {1, 0, 1, Rows(4)}, {2, 0, 1, Rows(4)}}, false);
}

TEST(GgufWriter, NamesThatNoReaderTakesAreBugs) {
  for (const std::string& name : {std::string(), std::string(64, 'n')}) {
    Manifest m;
    m.tensors = {{name, TensorRole::kOther, {}, DType::kF32, Shape{1}}};
    EXPECT_EQ(ErrorOf([&] { EncodeGgufHeader(m); })->code(), ErrorCode::kBug);
  }
}

}  // namespace
}  // namespace quern
