#include "formats/torch_cut.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "formats/torch_checkpoint.h"
#include "tests/formats/testing.h"
#include "tests/formats/torch_builder.h"

namespace quern {
namespace {

using testing::PkTensor;
using testing::PkText;

struct Record {
  std::string name, data;
};

// Returns the file as PyTorch lays it out, without directory and end record.
std::string Entries(const std::vector<Record>& records) {
  std::string file;
  for (const Record& record : records) {
    const testing::ZipPart part = testing::TorchPart(record.name, record.data, file.size());
    file += "PK\x03\x04" + testing::Le16(0) + testing::Le16(*part.flags) + testing::Le(0, 18) +
            testing::Le16(part.name.size()) + testing::Le16(part.local_extra.size()) + part.name +
            part.local_extra + part.data + part.descriptor;
  }
  return file;
}

// Two tensors in a storage of 4,000 bytes, one in a storage of 8,000.
std::string Pickle() {
  return testing::PkStateDict({{"a.weight", PkTensor({"FloatStorage", "0", 1000}, 0, {1000}, {1})},
                               {"a.bias", PkTensor({"FloatStorage", "0", 1000}, 5, {2}, {1})},
                               {"b.weight", PkTensor({"DoubleStorage", "1", 1000}, 0, {1000}, {1})}});
}

std::string WholeFile() {
  return Entries({{"archive/data.pkl", Pickle()},
                  {"archive/byteorder", "little"},
                  {"archive/data/0", std::string(4000, 'x')},
                  {"archive/data/1", std::string(8000, 'x')},
                  {"archive/version", "3\n"}});
}

std::optional<TorchCut> FindCut(std::string_view file) {
  const MemoryBytes bytes(AsBytes(file), "x.pth");
  return FindTorchCut(bytes);
}

TEST(TorchCutTest, NamesWhatIsMissing) {
  const std::string file = WholeFile();
  const size_t a = file.find(std::string(4000, 'x')), b = file.find(std::string(8000, 'x'));
  const size_t pickle_end = 64 + Pickle().size() + 16;
  const auto cut = [&](size_t size) { return FindCut(std::string_view(file).substr(0, size)); };
  for (const size_t size : {a, a + 1, a + 3999}) {
    ASSERT_TRUE(cut(size)) << size;
    EXPECT_EQ(cut(size)->entry, "archive/data/0");
    EXPECT_EQ(cut(size)->tensor, "a.weight");
    EXPECT_EQ(cut(size)->expected_bytes, pickle_end + 12000);
  }
  ASSERT_TRUE(cut(b + 7000));
  EXPECT_EQ(cut(b + 7000)->entry, "archive/data/1");
  EXPECT_EQ(cut(b + 7000)->tensor, "b.weight");
  // Between two entries it is known how long the file must be, but not which comes next.
  ASSERT_TRUE(cut(a + 4000));
  EXPECT_EQ(cut(a + 4000)->entry, "");
  EXPECT_EQ(cut(a + 4000)->tensor, "");
  // Nothing is missing that the pickle tells of.
  EXPECT_FALSE(cut(b + 8000));
  EXPECT_FALSE(cut(file.size()));
}

TEST(TorchCutTest, TheMessageSaysHowMuchIsThere) {
  const std::string file = WholeFile().substr(0, 6000);
  const MemoryBytes bytes(AsBytes(file), "x.pth");
  testing::ExpectError([&] { TorchCheckpoint::Open(bytes); }, ErrorCode::kData, "zip.eocd",
                       {"x.pth: file is cut off", "tensor 'b.weight', in entry 'archive/data/1'",
                        "(byte offset 6000), found 6000 bytes, expected at least 1"});
  const std::string other = file.substr(0, 100);
  const MemoryBytes less(AsBytes(other), "x.pth");
  testing::ExpectError([&] { TorchCheckpoint::Open(less); }, ErrorCode::kData, "zip.eocd",
                       {"end of central directory", "found 100 bytes"});
}

TEST(TorchCutTest, AnyBeginningIsSafe) {
  const std::string file = WholeFile();
  for (size_t size = 0; size <= file.size(); size += size < 600 ? 1 : 97) {
    const auto cut = FindCut(std::string_view(file).substr(0, size));
    if (cut) {
      EXPECT_GT(cut->expected_bytes, size);
    }
  }
  // A pickle that is none, sizes that leave 64 bits, a storage in no entry.
  EXPECT_FALSE(FindCut(Entries({{"archive/data.pkl", "N"}})));
  EXPECT_FALSE(FindCut(Entries({{"other", Pickle()}})));
  const auto with = [](const std::string& storage, int64_t n) {
    return FindCut(Entries({{"archive/data.pkl", "\x80\x02}(" + PkText("w") +
                                                     PkTensor({storage, "0", n}, 0, {1}, {1}) +
                                                     PkText("v") +
                                                     PkTensor({storage, "1", n}, 0, {1}, {1}) +
                                                     "u."}}));
  };
  const int64_t most = (int64_t{1} << 51) - 1;
  ASSERT_TRUE(with("ComplexDoubleStorage", most));
  EXPECT_GT(with("ComplexDoubleStorage", most)->expected_bytes, uint64_t{1} << 55);
  EXPECT_FALSE(with("FloatStorage", -1));
  // The walk over entries that hold nothing ends.
  std::vector<Record> records = {
      {"archive/data.pkl",
       testing::PkStateDict({{"w", PkTensor({"FloatStorage", "0", 1000000}, 0, {1}, {1})}})}};
  for (int i = 0; i < 200; ++i) records.push_back({"archive/none", "x"});
  ASSERT_TRUE(FindCut(Entries(records)));
  EXPECT_EQ(FindCut(Entries(records))->entry, "");
}

}  // namespace
}  // namespace quern
