#include "formats/imatrix_file.h"

#include <gtest/gtest.h>

#include <bit>
#include <limits>

#include "tests/formats/gguf_builder.h"
#include "tests/formats/testing.h"

namespace quern {
namespace {

using testing::Bytes;
using testing::ExpectError;
using testing::GgufBuilder;
using testing::InMemory;
using testing::PutLE;
using testing::PutText;

constexpr ErrorCode kData = ErrorCode::kData;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

Bytes LegacyEntry(std::string_view name, int32_t n_calls, const std::vector<float>& values) {
  Bytes out;
  PutLE(out, static_cast<int32_t>(name.size()));
  PutText(out, name);
  PutLE(out, n_calls);
  PutLE(out, static_cast<int32_t>(values.size()));
  for (const float value : values) PutLE(out, value);
  return out;
}

Bytes Legacy(const std::vector<Bytes>& entries, const Bytes& tail = {}) {
  Bytes out;
  PutLE(out, static_cast<int32_t>(entries.size()));
  for (const Bytes& entry : entries) out.insert(out.end(), entry.begin(), entry.end());
  out.insert(out.end(), tail.begin(), tail.end());
  return out;
}

Bytes Trailer(int32_t n_chunks, std::string_view dataset) {
  Bytes out;
  PutLE(out, n_chunks);
  PutLE(out, static_cast<int32_t>(dataset.size()));
  PutText(out, dataset);
  return out;
}

// One tensor of a GGUF file.
struct Sums {
  std::string name;
  std::vector<uint64_t> ne;
  std::vector<float> values;
  uint32_t type = 0;  // f32
};

Bytes Gguf(const std::vector<Sums>& tensors,
           GgufBuilder builder = GgufBuilder().Text("general.type", "imatrix")) {
  for (const Sums& tensor : tensors) {
    Bytes bytes;
    for (const float value : tensor.values) PutLE(bytes, value);
    builder.Tensor(tensor.name, tensor.ne, tensor.type, bytes);
  }
  return builder.Build();
}

Imatrix Read(const Bytes& bytes) { return ReadImatrix(*InMemory(bytes)); }

void ExpectReadError(const Bytes& bytes, std::string_view id,
                     const std::vector<std::string>& words = {}) {
  ExpectError([&] { Read(bytes); }, kData, id, words);
}

TEST(ImatrixLegacy, ValuesAreDividedByTheCalls) {
  const Imatrix imatrix =
      Read(Legacy({LegacyEntry("blk.0.ffn_up.weight", 4, {4, 8, 0}),
                   LegacyEntry("blk.0.attn_q.weight", 0, {4, 8}), LegacyEntry("z", 2, {0, 0})},
                  Trailer(7, "wiki.train.raw")));
  EXPECT_FALSE(imatrix.is_gguf);
  ASSERT_EQ(imatrix.entries.size(), 3u);
  EXPECT_EQ(imatrix.entries[0].name, "blk.0.ffn_up.weight");
  EXPECT_EQ(imatrix.entries[0].values, (std::vector<float>{1, 2, 0}));
  EXPECT_EQ(imatrix.entries[0].count, 4u);
  EXPECT_FALSE(imatrix.entries[0].all_zero);
  EXPECT_EQ(imatrix.entries[1].values, (std::vector<float>{4, 8}));  // no calls: as they are
  EXPECT_TRUE(imatrix.entries[2].all_zero);
  EXPECT_EQ(imatrix.n_chunks, 7u);
  EXPECT_EQ(imatrix.chunk_size, std::nullopt);
  EXPECT_EQ(imatrix.datasets, (StringList{"wiki.train.raw"}));
}

TEST(ImatrixLegacy, TheTrailerIsOptionalAndNothingMayFollowIt) {
  const Bytes entry = LegacyEntry("a.weight", 1, {1});
  EXPECT_EQ(Read(Legacy({entry})).n_chunks, std::nullopt);
  Bytes chunks_only;
  PutLE<int32_t>(chunks_only, 3);
  EXPECT_EQ(Read(Legacy({entry}, chunks_only)).n_chunks, 3u);
  EXPECT_TRUE(Read(Legacy({entry}, chunks_only)).datasets.empty());

  Bytes longer = Trailer(3, "text");
  longer.push_back('x');
  ExpectReadError(Legacy({entry}, longer), "imatrix.trailer", {"found 4"});
  ExpectReadError(Legacy({entry}, {1, 2}), "imatrix.trailer", {"2 bytes"});
  ExpectReadError(Legacy({entry}, Trailer(-1, "")), "imatrix.trailer", {"-1"});
}

TEST(ImatrixLegacy, WrongCountsAreRefusedBeforeMemoryIsTaken) {
  Bytes many = Legacy({LegacyEntry("a.weight", 1, {1})});
  for (const int32_t n : {-1, 0, 3, std::numeric_limits<int32_t>::max()}) {
    std::memcpy(many.data(), &n, 4);
    ExpectReadError(many, "imatrix.count", {std::to_string(n)});
  }
  ExpectReadError({}, "imatrix.count", {"0 bytes"});
  ExpectReadError(Legacy({LegacyEntry("a.weight", -2, {1})}), "imatrix.count",
                  {"'a.weight'", "-2"});

  for (const int32_t n : {-1, 0, 2, 1 << 30}) {
    Bytes bytes = Legacy({LegacyEntry("a.weight", 1, {1})});
    std::memcpy(bytes.data() + bytes.size() - 8, &n, 4);
    ExpectReadError(bytes, "imatrix.values", {"'a.weight'", std::to_string(n)});
  }
  for (const int32_t n : {-1, 0, 513, 1 << 30}) {
    Bytes bytes = Legacy({LegacyEntry(std::string(600, 'x'), 1, {1})});
    std::memcpy(bytes.data() + 4, &n, 4);
    ExpectReadError(bytes, "imatrix.name", {"entry 0", std::to_string(n)});
  }
}

TEST(ImatrixLegacy, NamesAreUniqueAndWithoutNul) {
  const Bytes entry = LegacyEntry("a.weight", 1, {1});
  ExpectReadError(Legacy({entry, LegacyEntry("b", 1, {1}), entry}), "imatrix.name",
                  {"entry 2", "'a.weight'"});
  ExpectReadError(Legacy({LegacyEntry(std::string_view("a\0b", 3), 1, {1})}), "imatrix.name",
                  {"entry 0", "\\x00"});
}

TEST(ImatrixLegacy, ValuesThatAreNoImportanceNameEntryAndColumn) {
  for (const float bad : {kNaN, kInf, -kInf, -1.0f, -1e-45f}) {
    ExpectReadError(Legacy({LegacyEntry("fine", 1, {1}), LegacyEntry("odd.weight", 1, {1, bad})}),
                    "imatrix.non-finite", {"'odd.weight'", "column 1"});
  }
  // Minus zero is zero.
  EXPECT_TRUE(Read(Legacy({LegacyEntry("a", 1, {-0.0f})})).entries[0].all_zero);
}

TEST(ImatrixLegacy, EveryTruncationIsAnErrorOrAnOldFile) {
  const Bytes whole = Legacy({LegacyEntry("a.weight", 2, {1, 2}), LegacyEntry("b.weight", 2, {3})},
                             Trailer(5, "text"));
  const size_t end_of_entries = whole.size() - 12;
  for (size_t n = 0; n < whole.size(); ++n) {
    const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n));
    const auto error = testing::ErrorOf([&] { Read(cut); });
    const bool is_old_file = n == end_of_entries || n == end_of_entries + 4;
    EXPECT_EQ(error.has_value(), !is_old_file) << n;
    if (error) {
      EXPECT_EQ(error->code(), kData) << error->what();
    }
  }
}

TEST(ImatrixGguf, ValuesAreMeanSquaresMatrixByMatrix) {
  const Bytes bytes = Gguf({{"blk.0.ffn_up.weight.in_sum2", {3}, {4, 8, 0}},
                            {"blk.0.ffn_up.weight.counts", {1}, {4}},
                            {"blk.1.experts.weight.counts", {1, 3}, {2, 0, 8}},
                            {"blk.1.experts.weight.in_sum2", {2, 3}, {2, 4, 0, 0, 8, 16}},
                            {"blk.1.experts.weight.in_sum", {2, 3}, {1, 1, 1, 1, 1, 1}}},
                           GgufBuilder()
                               .Text("general.type", "imatrix")
                               .Strings("imatrix.datasets", {"one.txt", "two.txt"})
                               .U32("imatrix.chunk_count", 10)
                               .U32("imatrix.chunk_size", 512));
  const Imatrix imatrix = Read(bytes);
  EXPECT_TRUE(imatrix.is_gguf);
  ASSERT_EQ(imatrix.entries.size(), 2u);
  EXPECT_EQ(imatrix.entries[0].name, "blk.0.ffn_up.weight");
  EXPECT_EQ(imatrix.entries[0].values, (std::vector<float>{1, 2, 0}));
  EXPECT_EQ(imatrix.entries[0].count, 4u);
  EXPECT_EQ(imatrix.entries[1].name, "blk.1.experts.weight");
  EXPECT_EQ(imatrix.entries[1].values, (std::vector<float>{1, 2, 1, 1, 1, 2}));
  EXPECT_EQ(imatrix.entries[1].count, 8u);
  EXPECT_EQ(imatrix.n_chunks, 10u);
  EXPECT_EQ(imatrix.chunk_size, 512u);
  EXPECT_EQ(imatrix.datasets, (StringList{"one.txt", "two.txt"}));
}

TEST(ImatrixGguf, SumsAndCountsComeInPairsThatAgree) {
  const Sums sums{"a.weight.in_sum2", {2}, {1, 2}}, counts{"a.weight.counts", {1}, {1}};
  EXPECT_EQ(Read(Gguf({sums, counts})).entries.size(), 1u);
  ExpectReadError(Gguf({sums}), "imatrix.count", {"'a.weight'", "sums without counts"});
  ExpectReadError(Gguf({counts}), "imatrix.count", {"'a.weight'", "counts without sums"});
  ExpectReadError(Gguf({}), "imatrix.count", {"no entries"});
  ExpectReadError(Gguf({sums, {"a.weight.counts", {2}, {1, 1}}}), "imatrix.values",
                  {"'a.weight'", "2 counts", "[2]"});
  ExpectReadError(Gguf({{"a.weight.in_sum2", {2}, {1}, 1}, counts}), "imatrix.values",
                  {"'a.weight'", "f16"});
}

TEST(ImatrixGguf, NumbersThatAreNoImportanceAreRefused) {
  const auto with = [](float sum, float count) {
    return Gguf({{"a.weight.in_sum2", {2}, {1, sum}}, {"a.weight.counts", {1}, {count}}});
  };
  for (const float bad : {kNaN, kInf, -1.0f}) {
    ExpectReadError(with(bad, 1), "imatrix.non-finite", {"'a.weight'", "column 1"});
    ExpectReadError(with(1, bad), "imatrix.count", {"'a.weight'", "matrix 0"});
  }
  ExpectReadError(with(1e38f, 1e-10f), "imatrix.non-finite", {"column 1", "inf"});
  EXPECT_EQ(Read(with(0, 0)).entries[0].values, (std::vector<float>{1, 1}));
}

TEST(ImatrixGguf, OtherFilesAreToldApart) {
  ExpectError([] { Read(Gguf({}, GgufBuilder().Text("general.type", "model"))); },
              ErrorCode::kUnsupported, "input.kind", {"'model'", "importance matrix"});
  ExpectError([] { Read(Gguf({}, GgufBuilder())); }, ErrorCode::kUnsupported, "input.kind");
  ExpectReadError(
      Gguf({}, GgufBuilder().Text("general.type", "imatrix").Text("imatrix.chunk_size", "x")),
      "imatrix.metadata", {"imatrix.chunk_size"});
  ExpectReadError(
      Gguf({}, GgufBuilder().Text("general.type", "imatrix").U32("imatrix.datasets", 1)),
      "imatrix.metadata", {"imatrix.datasets"});
}

TEST(ImatrixFile, ModelsAndFoldersAreNoImatrix) {
  const std::string fixture = QUERN_SOURCE_DIR "/tests/data/fixture";
  EXPECT_FALSE(IsImatrix(fixture + "/meta-2/params.json"));
  EXPECT_FALSE(IsImatrix(fixture));
  ExpectError([&] { ReadImatrix(fixture); }, ErrorCode::kUnsupported, "input.kind", {"a folder"});
}

}  // namespace
}  // namespace quern
