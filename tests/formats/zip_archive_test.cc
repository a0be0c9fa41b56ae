#include "formats/zip_archive.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "tests/formats/testing.h"
#include "tests/formats/torch_builder.h"
#include "tests/formats/torch_golden.h"

namespace quern {
namespace {

using testing::BuildZip;
using testing::Le16;
using testing::Le32;
using testing::Le64;
using testing::ZipPart;
using testing::ZipStyle;

std::vector<ZipPart> TwoParts() {
  std::vector<ZipPart> parts(2);
  parts[0].name = "a/one";
  parts[0].data = "first data";
  parts[1].name = "a/two";
  parts[1].data = "second";
  return parts;
}

void ExpectRefused(const std::string& file, std::string_view id,
                   const std::vector<std::string>& words = {}, ErrorCode code = ErrorCode::kData) {
  const MemoryBytes bytes(AsBytes(file), "x.pth");
  testing::ExpectError([&] { ZipArchive::Open(bytes); }, code, id, words);
}

// The same with one change to the second entry.
template <typename Change>
void ExpectPartRefused(const Change& change, std::string_view id,
                       const std::vector<std::string>& words = {},
                       ErrorCode code = ErrorCode::kData) {
  std::vector<ZipPart> parts = TwoParts();
  change(parts[1]);
  ExpectRefused(BuildZip(parts), id, words, code);
}

size_t NumberOfEntries(const std::string& file) {
  const MemoryBytes bytes(AsBytes(file), "x.pth");
  return ZipArchive::Open(bytes).entries().size();
}

TEST(ZipArchiveTest, FindsEntriesAndReadsThem) {
  const std::string file = BuildZip(TwoParts());
  const MemoryBytes bytes(AsBytes(file), "x.pth");
  const ZipArchive archive = ZipArchive::Open(bytes);
  ASSERT_EQ(archive.entries().size(), 2u);
  const ZipEntry* two = archive.Find("a/two");
  ASSERT_NE(two, nullptr);
  EXPECT_EQ(two->size_bytes, 6u);
  EXPECT_EQ(two->crc32, testing::Crc32("second"));
  EXPECT_EQ(AsText(archive.Read(*two)), "second");
  EXPECT_EQ(file.substr(two->data_offset, 6), "second");
  EXPECT_EQ(archive.Find("a/tw"), nullptr);
  EXPECT_EQ(archive.Find("a/two2"), nullptr);
}

TEST(ZipArchiveTest, AcceptsWhatHonestWritersDo) {
  EXPECT_EQ(NumberOfEntries(testing::TinyPth()), 4u);
  EXPECT_EQ(NumberOfEntries(BuildZip({})), 0u);
  EXPECT_EQ(NumberOfEntries(BuildZip(TwoParts(), {.has_zip64 = true})), 2u);
  // The end record may leave its values to zip64.
  EXPECT_EQ(NumberOfEntries(BuildZip(TwoParts(), {.has_zip64 = true,
                                                  .n_entries = 0xFFFF,
                                                  .directory_size = 0xFFFFFFFF,
                                                  .directory_offset = 0xFFFFFFFF})),
            2u);
  EXPECT_EQ(NumberOfEntries(BuildZip(TwoParts(), {.comment = "packed by hand"})), 2u);
  const auto with = [](auto change) {
    std::vector<ZipPart> parts = TwoParts();
    change(parts[0]);
    return NumberOfEntries(BuildZip(parts));
  };
  // Descriptors of every form; sizes in the local header zero, true, or left to zip64.
  const std::string crc = Le32(testing::Crc32(TwoParts()[0].data)), signature = "PK\x07\x08";
  for (const std::string& descriptor :
       {std::string(), crc + Le32(10) + Le32(10), signature + crc + Le32(10) + Le32(10),
        crc + Le64(10) + Le64(10), signature + crc + Le64(10) + Le64(10)}) {
    for (const uint32_t size : {0u, 10u, 0xFFFFFFFFu}) {
      EXPECT_EQ(with([&](ZipPart& part) {
                  part.flags = 0x808;
                  part.descriptor = descriptor;
                  part.local_size = part.local_stored_size = size;
                  part.local_crc = size == 10 ? testing::Crc32(part.data) : 0;
                }),
                2u);
    }
  }
  EXPECT_EQ(with([](ZipPart& part) {
              part.local_size = part.local_stored_size = 0xFFFFFFFF;
              part.local_extra = Le16(1) + Le16(16) + Le64(10) + Le64(10);
            }),
            2u);
  EXPECT_EQ(with([](ZipPart& part) {
              part.size = part.stored_size = 0xFFFFFFFF;
              part.local_offset = 0xFFFFFFFF;
              part.extra = Le16(1) + Le16(24) + Le64(10) + Le64(10) + Le64(0);
              part.comment = "a comment";
            }),
            2u);
  // Fields of other tools, long padding, a folder's own entry.
  EXPECT_EQ(with([](ZipPart& part) {
              part.extra = Le16(0x5455) + Le16(5) + std::string(5, 'x');
              part.local_extra = Le16(0x4642) + Le16(4000) + std::string(4000, 'Z');
            }),
            2u);
  EXPECT_EQ(with([](ZipPart& part) {
              part.name = "a/";
              part.data = "";
            }),
            2u);
}

TEST(ZipArchiveTest, RefusesABadEnd) {
  const std::string good = BuildZip(TwoParts());
  ExpectRefused("", "zip.eocd");
  ExpectRefused("PK\x05\x06", "zip.eocd");
  ExpectRefused(good.substr(0, good.size() - 1), "zip.eocd");
  ExpectRefused(good + "x", "input.trailing-data", {"1 bytes"});
  ExpectRefused(good + std::string(70000, '\0'), "zip.eocd");
  ExpectRefused(good + good, "zip.eocd", {"end of central directory"});
  ExpectRefused(BuildZip(TwoParts(), {.prefix = "#!/bin/sh\n"}), "zip.eocd", {"10 bytes"});
  ExpectRefused("#!/bin/sh\n" + good, "zip.eocd");
  // A comment that holds an end record of its own.
  ExpectRefused(BuildZip(TwoParts(), {.comment = BuildZip({})}), "zip.eocd", {"second"});
  ExpectRefused(BuildZip(TwoParts(), {.before_end = "x"}), "zip.eocd");
  ExpectRefused(BuildZip(TwoParts(), {.n_entries = 3}), "zip.directory");
  ExpectRefused(BuildZip(TwoParts(), {.n_entries = 1}), "zip.directory");
  ExpectRefused(BuildZip(TwoParts(), {.n_entries = 0}), "zip.directory");
  ExpectRefused(BuildZip(TwoParts(), {.n_entries = 60000}), "zip.directory", {"60000"});
  ExpectRefused(BuildZip(TwoParts(), {.directory_size = 1}), "zip.eocd");
  ExpectRefused(BuildZip(TwoParts(), {.directory_size = 0xFFFFFFFF}), "zip.eocd", {"4294967295"});
  ExpectRefused(BuildZip(TwoParts(), {.directory_offset = 1}), "zip.eocd");
  std::string parts_of_disks = good;
  parts_of_disks[good.size() - 18] = 1;
  ExpectRefused(parts_of_disks, "zip.multi-disk");
}

TEST(ZipArchiveTest, RefusesABadZip64End) {
  const auto refused = [](ZipStyle style, const std::vector<std::string>& words = {}) {
    style.has_zip64 = true;
    ExpectRefused(BuildZip(TwoParts(), style), "zip.zip64", words);
  };
  refused({.zip64_n = uint64_t{1} << 40}, {"1099511627776"});
  refused({.zip64_size = 1});
  refused({.zip64_offset = 0});
  refused({.zip64_locator = 0});
  refused({.zip64_locator = UINT64_MAX}, {"18446744073709551615"});
  refused({.zip64_record_size = 45});
  refused({.zip64_record_size = UINT64_MAX - 11});
  // With all values left to zip64, it must still fit the file.
  const ZipStyle all = {.has_zip64 = true,
                        .n_entries = 0xFFFF,
                        .directory_size = 0xFFFFFFFF,
                        .directory_offset = 0xFFFFFFFF};
  ZipStyle style = all;
  style.zip64_n = uint64_t{1} << 62;
  ExpectRefused(BuildZip(TwoParts(), style), "zip.directory", {"4611686018427387904"});
  style = all;
  style.zip64_size = UINT64_MAX;
  ExpectRefused(BuildZip(TwoParts(), style), "zip.eocd");
  style = all;
  style.zip64_offset = UINT64_MAX - 3;
  ExpectRefused(BuildZip(TwoParts(), style), "zip.eocd");
}

TEST(ZipArchiveTest, RefusesBadNames) {
  for (const std::string& name :
       {std::string("/abs"), std::string("../up"), std::string("a/../../b"), std::string("a/.."),
        std::string("./a"), std::string("a\\b"), std::string("C:/a"), std::string("a\0b", 3),
        std::string("a/\xFF"), std::string()}) {
    ExpectPartRefused([&](ZipPart& part) { part.name = name; }, "zip.name", {Escaped(name)});
  }
  ExpectPartRefused([](ZipPart& part) { part.name = "a/one"; }, "zip.duplicate-entry", {"a/one"});
  ExpectPartRefused([](ZipPart& part) { part.name = "a/"; }, "zip.name", {"data"});
}

// PyTorch names the top folder after the file: "C:.pth", "x:1.pth", "..pth".
TEST(ZipArchiveTest, TheTopFolderMayLookLikeAPath) {
  for (const std::string& top : std::vector<std::string>{"C:", "x:1", ".", "a b", "...."}) {
    std::vector<ZipPart> parts = TwoParts();
    parts[0].name = top + "/one";
    parts[1].name = top + "/data/two";
    EXPECT_EQ(NumberOfEntries(BuildZip(parts)), 2u) << top;
    parts[1].name = top + "/../two";
    ExpectRefused(BuildZip(parts), "zip.name", {parts[1].name});
    parts[1].name = "D:/two";
    ExpectRefused(BuildZip(parts), "zip.name", {"D:/two"});
  }
  for (const std::string& name : std::vector<std::string>{"../one", "..", ".", "C:one/.."}) {
    std::vector<ZipPart> parts = TwoParts();
    parts[0].name = name;
    ExpectRefused(BuildZip(parts), "zip.name", {name});
  }
}

TEST(ZipArchiveTest, RefusesFlagsAndMethods) {
  for (const int flag : {0x1, 0x2, 0x4, 0x10, 0x20, 0x40, 0x1000, 0x2000, 0x8000}) {
    ExpectPartRefused([&](ZipPart& part) { part.flags = static_cast<uint16_t>(flag); }, "zip.flags",
                      {"a/two"});
  }
  ExpectPartRefused([](ZipPart& part) { part.flags = 1; }, "zip.flags", {"encrypted"});
  for (const uint16_t method : std::vector<uint16_t>{8, 9, 12, 14, 93, 99}) {
    std::vector<ZipPart> parts = TwoParts();
    parts[1].method = method;
    parts[1].size = parts[1].local_size = 1000;
    const std::string file = BuildZip(parts);
    const MemoryBytes bytes(AsBytes(file), "x.pth");
    const ZipArchive archive = ZipArchive::Open(bytes);
    EXPECT_EQ(archive.Find("a/two")->size_bytes, 6u);
    testing::ExpectError([&] { archive.RequireStored(); }, ErrorCode::kUnsupported, "zip.method",
                         {"a/two", std::to_string(method)});
  }
  ExpectPartRefused([](ZipPart& part) { part.disk = 1; }, "zip.multi-disk", {"a/two"});
  ExpectPartRefused([](ZipPart& part) { part.attributes = 0120777u << 16; }, "zip.file-type",
                    {"symbolic link"});
}

TEST(ZipArchiveTest, RefusesLocalHeadersThatDisagree) {
  const auto refused = [](auto change) {
    ExpectPartRefused(change, "zip.local-mismatch", {"a/two"});
  };
  refused([](ZipPart& part) { part.local_signature = "PK\x03\x05"; });
  refused([](ZipPart& part) { part.local_name = "a/twO"; });
  refused([](ZipPart& part) { part.local_name = "a/two2"; });
  refused([](ZipPart& part) { part.local_flags = 0x800; });
  refused([](ZipPart& part) { part.local_method = 8; });
  refused([](ZipPart& part) { part.local_crc = 0; });
  refused([](ZipPart& part) { part.local_size = 0; });
  refused([](ZipPart& part) { part.local_size = 5; });
  refused([](ZipPart& part) { part.local_stored_size = 7; });
  refused([](ZipPart& part) { part.flags = 8, part.local_size = 5; });
  refused([](ZipPart& part) { part.flags = 8, part.local_crc = 5; });
  refused([](ZipPart& part) { part.local_extra = "FB"; });
  refused([](ZipPart& part) { part.local_extra = "FB" + Le16(1); });
  refused([](ZipPart& part) { part.local_extra = Le16(1) + Le16(0) + Le16(1) + Le16(0); });
  refused([](ZipPart& part) {
    part.local_size = part.local_stored_size = 0xFFFFFFFF;
    part.local_extra = Le16(1) + Le16(16) + Le64(6) + Le64(7);
  });
  refused([](ZipPart& part) {
    part.local_size = part.local_stored_size = 0xFFFFFFFF;
    part.local_extra = Le16(1) + Le16(8) + Le64(6);
  });
}

TEST(ZipArchiveTest, RefusesBadExtents) {
  const auto in_64 = [](uint64_t size, uint64_t stored) {
    return [=](ZipPart& part) {
      part.size = part.stored_size = 0xFFFFFFFF;
      part.extra = Le16(1) + Le16(16) + Le64(size) + Le64(stored);
    };
  };
  for (const uint64_t size : {uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 40, uint64_t{1000}}) {
    ExpectPartRefused(in_64(size, size), "zip.entry-past-eof", {"a/two", std::to_string(size)});
  }
  ExpectPartRefused(in_64(6, 7), "zip.directory", {"a/two"});
  ExpectPartRefused([](ZipPart& part) { part.size = 7; }, "zip.directory", {"a/two"});
  ExpectPartRefused([](ZipPart& part) { part.size = part.stored_size = 7; }, "zip.entry-past-eof");
  ExpectPartRefused([](ZipPart& part) { part.size = part.stored_size = 5; }, "zip.local-mismatch");
  ExpectPartRefused([](ZipPart& part) { part.local_offset = 1u << 30; }, "zip.entry-past-eof");
  ExpectPartRefused([](ZipPart& part) { part.local_offset = 0xFFFFFFFF; }, "zip.directory");
  ExpectPartRefused([](ZipPart& part) { part.local_offset = 0; }, "zip.overlap",
                    {"a/two", "a/one"});
  ExpectPartRefused([](ZipPart& part) { part.local_offset = 7; }, "zip.overlap");
  ExpectPartRefused([](ZipPart& part) { part.extra = Le16(1) + Le16(8) + Le64(6); }, "zip.zip64");
  ExpectPartRefused([](ZipPart& part) { part.extra = Le16(1) + Le16(9) + Le64(6); },
                    "zip.directory");
  ExpectPartRefused(
      [](ZipPart& part) {
        part.size = part.stored_size = 0xFFFFFFFF;
        part.extra = Le16(1) + Le16(8) + Le64(6);
      },
      "zip.directory");
  // Bytes that belong to no entry: an entry without a record, a descriptor without the flag.
  ExpectPartRefused([](ZipPart& part) { part.in_directory = false; }, "zip.hidden-bytes",
                    {"a/one"});
  ExpectPartRefused([](ZipPart& part) { part.descriptor = std::string(16, 'x'); },
                    "zip.hidden-bytes");
  ExpectPartRefused([](ZipPart& part) { part.flags = 8, part.descriptor = "hidden"; },
                    "zip.hidden-bytes");
  // Descriptors that say something else than the directory.
  const std::string crc = Le32(testing::Crc32(TwoParts()[1].data)), signature = "PK\x07\x08";
  for (const std::string& descriptor :
       {Le32(1) + Le32(6) + Le32(6), crc + Le32(7) + Le32(6), crc + Le32(6) + Le32(7),
        std::string(12, '\0'), std::string(16, '\0'), signature + Le32(0) + Le32(6) + Le32(6),
        "PK\x07\x09" + crc + Le32(6) + Le32(6), crc + Le64(6) + Le64(uint64_t{6} << 32 | 6),
        crc + Le64(uint64_t{1} << 63 | 6) + Le64(6), signature + crc + Le64(6) + Le64(0)}) {
    ExpectPartRefused([&](ZipPart& part) { part.flags = 8, part.descriptor = descriptor; },
                      "zip.local-mismatch", {"a/two", "descriptor"});
  }
  // Padding that moves the data into the next entry.
  std::vector<ZipPart> parts = TwoParts();
  std::string file = BuildZip(parts);
  file[28] = 4;
  ExpectRefused(file, "zip.local-mismatch");
}

// A file of any size that is zero but for a few pieces.
class SparseBytes final : public RandomAccessBytes {
 public:
  void Put(const std::string& piece) {
    pieces_.emplace_back(size_, piece);
    size_ += piece.size();
  }
  void Skip(uint64_t n) { size_ += n; }
  uint64_t size_bytes() const override { return size_; }
  const std::string& name() const override { return name_; }
  void ReadAt(uint64_t offset, MutableByteView out) const override {
    ASSERT_LE(offset + out.size(), size_);
    std::fill(out.begin(), out.end(), 0);
    for (const auto& [begin, piece] : pieces_) {
      for (size_t i = 0; i < piece.size(); ++i) {
        const uint64_t at = begin + i;
        if (at >= offset && at - offset < out.size())
          out[at - offset] = static_cast<uint8_t>(piece[i]);
      }
    }
  }

 private:
  std::string name_ = "huge.pth";
  uint64_t size_ = 0;
  std::vector<std::pair<uint64_t, std::string>> pieces_;
};

// What PyTorch writes when an entry, and then an offset, is beyond 4 GiB.
TEST(ZipArchiveTest, ReadsArchivesBeyond4GiB) {
  constexpr uint64_t kSize = (uint64_t{1} << 32) + 4096;
  const std::string all_ones(4, '\xFF');
  const auto local = [](const std::string& name, const std::string& extra) {
    return "PK\x03\x04" + Le16(0) + Le16(0x808) + Le16(0) + Le32(0) + Le32(0) + Le32(0) + Le32(0) +
           Le16(name.size()) + Le16(extra.size()) + name + extra;
  };
  SparseBytes bytes;
  bytes.Put(local("a/data/0", Le16(1) + Le16(16) + Le64(kSize) + Le64(0) + "FB" + Le16(3) + "ZZZ"));
  const uint64_t data_offset = bytes.size_bytes();
  bytes.Skip(kSize);
  bytes.Put("PK\x07\x08" + Le32(7) + Le64(kSize) + Le64(kSize));
  const uint64_t second = bytes.size_bytes();
  bytes.Put(local("a/version", Le16(1) + Le16(8) + Le64(second)) + "3\n" + "PK\x07\x08" + Le32(9) +
            Le64(2) + Le64(2));
  const uint64_t directory = bytes.size_bytes();
  const auto central = [](const std::string& name, uint32_t crc, const std::string& sizes,
                          const std::string& offset, const std::string& extra) {
    return "PK\x01\x02" + Le32(0) + Le16(0x808) + Le16(0) + Le32(0) + Le32(crc) + sizes +
           Le16(name.size()) + Le16(extra.size()) + Le16(0) + Le32(0) + Le32(0) + offset + name +
           extra;
  };
  bytes.Put(central("a/data/0", 7, all_ones + all_ones, Le32(0),
                    Le16(1) + Le16(16) + Le64(kSize) + Le64(kSize)) +
            central("a/version", 9, Le32(2) + Le32(2), all_ones, Le16(1) + Le16(8) + Le64(second)));
  const uint64_t record = bytes.size_bytes();
  bytes.Put("PK\x06\x06" + Le64(44) + Le32(0) + Le32(0) + Le32(0) + Le64(2) + Le64(2) +
            Le64(record - directory) + Le64(directory) + "PK\x06\x07" + Le32(0) + Le64(record) +
            Le32(1) + "PK\x05\x06" + Le32(0) + Le16(2) + Le16(2) + Le32(record - directory) +
            all_ones + Le16(0));
  const ZipArchive archive = ZipArchive::Open(bytes);
  EXPECT_EQ(archive.Find("a/data/0")->data_offset, data_offset);
  EXPECT_EQ(archive.Find("a/data/0")->size_bytes, kSize);
  EXPECT_EQ(AsText(archive.Read(*archive.Find("a/version"), false)), "3\n");
}

TEST(ZipArchiveTest, ChecksCrcs) {
  std::vector<ZipPart> parts = TwoParts();
  parts[1].data = std::string(3'000'000, 'x');  // more than a buffer
  std::string file = BuildZip(parts);
  const MemoryBytes bytes(AsBytes(file), "x.pth");
  const ZipArchive archive = ZipArchive::Open(bytes);
  for (const ZipEntry& entry : archive.entries()) archive.VerifyCrc(entry);
  file[archive.Find("a/two")->data_offset + 2'500'000] ^= 1;
  testing::ExpectError([&] { archive.VerifyCrc(*archive.Find("a/two")); }, ErrorCode::kData,
                       "zip.crc", {"a/two"});
  testing::ExpectError([&] { archive.Read(*archive.Find("a/two")); }, ErrorCode::kData, "zip.crc");
  EXPECT_EQ(archive.Read(*archive.Find("a/two"), false).size(), 3'000'000u);
}

TEST(ZipArchiveTest, OpensArchivesOfManyEntries) {
  std::vector<ZipPart> parts(200000);
  for (size_t i = 0; i < parts.size(); ++i) parts[i].name = "a/data/" + std::to_string(i);
  const std::string file = BuildZip(parts, {.has_zip64 = true, .n_entries = 0xFFFF});
  EXPECT_EQ(NumberOfEntries(file), parts.size());
  parts[100].name = "a/data/199999";
  ExpectRefused(BuildZip(parts, {.has_zip64 = true, .n_entries = 0xFFFF}), "zip.duplicate-entry",
                {"a/data/199999"});
}

}  // namespace
}  // namespace quern
