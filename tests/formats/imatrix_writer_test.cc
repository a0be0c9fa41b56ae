#include "formats/imatrix_writer.h"

#include <gtest/gtest.h>

#include "tests/formats/gguf_builder.h"
#include "tests/formats/testing.h"

namespace quern {
namespace {

using testing::Bytes;
using testing::ExpectError;
using testing::InMemory;
using testing::VectorOutput;

ImatrixEntry Entry(const std::string& name, std::vector<float> values, std::vector<float> counts) {
  ImatrixEntry entry;
  entry.name = name;
  entry.values = std::move(values);
  entry.matrix_counts = std::move(counts);
  return entry;
}

Imatrix Gguf(std::vector<ImatrixEntry> entries, uint32_t n_chunks = 4, uint32_t chunk_size = 8) {
  Imatrix imatrix;
  imatrix.is_gguf = true;
  imatrix.entries = std::move(entries);
  imatrix.datasets = {"one.txt", "two.txt"};
  imatrix.n_chunks = n_chunks;
  imatrix.chunk_size = chunk_size;
  return imatrix;
}

Imatrix Legacy(std::vector<ImatrixEntry> entries, uint32_t n_chunks) {
  Imatrix imatrix = Gguf(std::move(entries), n_chunks);
  imatrix.is_gguf = false;
  imatrix.chunk_size = std::nullopt;
  return imatrix;
}

using Writer = void (*)(const Imatrix&, std::unique_ptr<Output>);

Imatrix ThroughFile(const Imatrix& imatrix, Writer write) {
  Bytes bytes;
  bool committed = false;
  write(imatrix, std::make_unique<VectorOutput>(bytes, &committed));
  EXPECT_TRUE(committed);
  return ReadImatrix(*InMemory(bytes));
}

TEST(ImatrixWriter, GgufKeepsValuesCountsAndWhereTheyCameFrom) {
  const Imatrix read = ThroughFile(
      Gguf({Entry("b.weight", {1, 2.5f, 0}, {32}), Entry("a.weight", {1, 2, 1, 1}, {16, 0})}),
      WriteImatrixGguf);
  EXPECT_TRUE(read.is_gguf);
  ASSERT_EQ(read.entries.size(), 2u);
  EXPECT_EQ(read.entries[0].name, "a.weight");  // sorted
  EXPECT_EQ(read.entries[0].values, (std::vector<float>{1, 2, 1, 1}));
  EXPECT_EQ(read.entries[0].matrix_counts, (std::vector<float>{16, 0}));
  EXPECT_EQ(read.entries[1].values, (std::vector<float>{1, 2.5f, 0}));
  EXPECT_EQ(read.entries[1].count, 32u);
  EXPECT_EQ(read.datasets, (StringList{"one.txt", "two.txt"}));
  EXPECT_EQ(read.n_chunks, 4u);
  EXPECT_EQ(read.chunk_size, 8u);
}

TEST(ImatrixWriter, LegacyCallsAreChunksRoundedUp) {
  const Imatrix read =
      ThroughFile(Gguf({Entry("a.weight", {1, 2.5f, 0}, {25})}), WriteImatrixLegacy);
  EXPECT_FALSE(read.is_gguf);
  ASSERT_EQ(read.entries.size(), 1u);
  EXPECT_EQ(read.entries[0].count, 4u);
  EXPECT_EQ(read.entries[0].values, (std::vector<float>{1, 2.5f, 0}));
  EXPECT_EQ(read.n_chunks, 4u);
  EXPECT_EQ(read.datasets, (StringList{"one.txt, two.txt"}));
}

// The layout byte by byte, written out by hand.
TEST(ImatrixWriter, LegacyBytes) {
  Imatrix imatrix = Legacy({Entry("w", {0.5f}, {2})}, 2);
  imatrix.datasets = {"t"};
  Bytes bytes;
  WriteImatrixLegacy(imatrix, std::make_unique<VectorOutput>(bytes));
  const Bytes expected = {1, 0, 0, 0, 1,    0,    0, 0, 'w', 2, 0, 0, 0, 1, 0,
                          0, 0, 0, 0, 0x80, 0x3f, 2, 0, 0,   0, 1, 0, 0, 0, 't'};
  EXPECT_EQ(bytes, expected);
}

TEST(ImatrixWriter, NamesWithoutRoomInGgufAreRefused) {
  const std::string longest(55, 'n');
  EXPECT_EQ(ThroughFile(Gguf({Entry(longest, {1}, {1})}), WriteImatrixGguf).entries[0].name,
            longest);
  Bytes bytes;
  ExpectError(
      [&] {
        WriteImatrixGguf(Gguf({Entry(longest + "n", {1}, {1})}),
                         std::make_unique<VectorOutput>(bytes));
      },
      ErrorCode::kData, "imatrix.name", {"56 bytes", "55"});
  EXPECT_TRUE(bytes.empty());
}

TEST(ImatrixMerge, MeansAreWeightedByRows) {
  const Imatrix merged = MergeImatrices({Gguf({Entry("a", {1, 4}, {8})}, 1),
                                         Gguf({Entry("a", {3, 0}, {24}), Entry("b", {7}, {8})}, 3)},
                                        {"x", "y"});
  ASSERT_EQ(merged.entries.size(), 2u);
  EXPECT_EQ(merged.entries[0].values, (std::vector<float>{2.5f, 1}));
  EXPECT_EQ(merged.entries[0].count, 32u);
  EXPECT_EQ(merged.entries[1].values, (std::vector<float>{7}));
  EXPECT_EQ(merged.n_chunks, 4u);
  EXPECT_EQ(merged.datasets.size(), 4u);
}

TEST(ImatrixMerge, LegacyCallsAreAddedAsTheyAre) {
  const Imatrix merged = MergeImatrices(
      {Legacy({Entry("a", {1}, {1})}, 1), Legacy({Entry("a", {4}, {2})}, 2)}, {"x", "y"});
  EXPECT_FALSE(merged.is_gguf);
  EXPECT_EQ(merged.entries[0].values, (std::vector<float>{3}));
  EXPECT_EQ(merged.entries[0].count, 3u);
}

TEST(ImatrixMerge, ALegacyCallStandsForAChunkBesideGguf) {
  const Imatrix merged = MergeImatrices(
      {Legacy({Entry("a", {1}, {1})}, 1), Gguf({Entry("a", {4}, {1024})}, 2, 512)}, {"x", "y"});
  EXPECT_TRUE(merged.is_gguf);
  EXPECT_EQ(merged.entries[0].values, (std::vector<float>{3}));
  EXPECT_EQ(merged.entries[0].count, 1536u);
}

TEST(ImatrixMerge, AnExpertWithoutRowsTakesTheOthers) {
  const Imatrix merged = MergeImatrices(
      {Gguf({Entry("e", {1, 1, 5, 5}, {0, 8})}), Gguf({Entry("e", {2, 3, 1, 1}, {8, 0})})},
      {"x", "y"});
  EXPECT_EQ(merged.entries[0].values, (std::vector<float>{2, 3, 5, 5}));
}

TEST(ImatrixMerge, OtherWidthsNameTheFileAndTheEntry) {
  ExpectError(
      [] {
        MergeImatrices({Gguf({Entry("a", {1}, {1})}), Gguf({Entry("a", {1, 2}, {1})})}, {"x", "y"});
      },
      ErrorCode::kData, "imatrix.values", {"y:", "'a'", "2 values", "1 in 1"});
}

}  // namespace
}  // namespace quern
