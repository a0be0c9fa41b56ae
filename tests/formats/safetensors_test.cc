#include "formats/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "formats/core/error.h"
#include "formats/formats.h"

namespace quern {
namespace {

std::string File(const std::string& header, size_t n_data_bytes) {
  std::string text(8, '\0');
  StoreLE<uint64_t>(text.data(), header.size());
  return text + header + std::string(n_data_bytes, '\x11');
}

// Opens a file in memory. The text must outlive the result.
struct Opened {
  explicit Opened(const std::string& text)
      : bytes(AsBytes(text), "x.safetensors"), file(SafetensorsFile::Open(bytes)) {}
  MemoryBytes bytes;
  SafetensorsFile file;
};

// The worked example of the format: 108 bytes, one matrix with the values 0 to 5.
TEST(Safetensors, ReadsTheExample) {
  std::string text = File(
      R"({"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"__metadata__":{"format":"pt"}})",
      0);
  ASSERT_EQ(text.size(), 96u);
  for (const int half : {0x0000, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500}) {
    text.push_back(static_cast<char>(half));
    text.push_back(static_cast<char>(half >> 8));
  }
  const Opened opened(text);
  ASSERT_EQ(opened.file.tensors().size(), 1u);
  const SafetensorsTensor& a = opened.file.tensors()[0];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.dtype, DType::kF16);
  EXPECT_TRUE(std::ranges::equal(a.shape, std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(a.file_offset, 96u);
  EXPECT_EQ(opened.file.Find("a"), &a);
  EXPECT_EQ(opened.file.Find("b"), nullptr);
  std::vector<uint8_t> bytes(4);
  opened.file.Read(a, 6, bytes);
  EXPECT_EQ(bytes, (std::vector<uint8_t>{0x00, 0x42, 0x00, 0x44}));
}

TEST(Safetensors, LegalOddities) {
  EXPECT_TRUE(Opened(File("{}", 0)).file.tensors().empty());
  EXPECT_TRUE(Opened(File("{}      ", 0)).file.tensors().empty());
  const std::string text = File(R"({"scalar":{"dtype":"I64","shape":[],"data_offsets":[2,10]},)"
                                R"("none":{"dtype":"F32","shape":[2,0],"data_offsets":[2,2]},)"
                                R"("small":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]},)"
                                R"("half":{"dtype":"F4","shape":[4],"data_offsets":[10,12]}})",
                                12);
  const Opened opened(text);
  ASSERT_EQ(opened.file.tensors().size(), 4u);
  EXPECT_EQ(opened.file.tensors()[0].name, "small");
  EXPECT_FALSE(opened.file.tensors()[0].dtype.has_value());
  EXPECT_EQ(opened.file.Find("scalar")->size_bytes, 8u);
  EXPECT_EQ(opened.file.Find("none")->size_bytes, 0u);
  EXPECT_EQ(opened.file.Find("half")->elem_bits, 4u);
}

// Headers of 640 and of 35615 bytes begin as a pickle and as gzip do.
TEST(Safetensors, LengthsThatLookLikeOtherFormats) {
  for (const size_t n_bytes : {0x280u, 0x8b1fu}) {
    const std::string header = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})";
    const std::string text = File(header + std::string(n_bytes - header.size(), ' '), 4);
    EXPECT_EQ(Opened(text).file.tensors().size(), 1u);
    EXPECT_EQ(DetectKind(AsBytes(text), "x"), FileKind::kSafetensors) << n_bytes;
  }
}

struct Hostile {
  const char* name;
  std::string bytes;
  const char* id;
  const char* word;
};
void PrintTo(const Hostile& c, std::ostream* out) { *out << c.name; }
class HostileSafetensors : public ::testing::TestWithParam<Hostile> {};

TEST_P(HostileSafetensors, IsRefused) {
  const Hostile& c = GetParam();
  try {
    const Opened opened(c.bytes);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), c.id) << error.what();
    EXPECT_NE(std::string(error.what()).find(c.word), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("x.safetensors"), std::string::npos);
  }
}

std::string One(const std::string& members, size_t n_data_bytes = 4) {
  return File(R"({"a":{)" + members + "}}", n_data_bytes);
}

INSTANTIATE_TEST_SUITE_P(
    All, HostileSafetensors,
    ::testing::Values(
        Hostile{"Seven", std::string(7, '{'), "safetensors.truncated", "7 bytes"},
        Hostile{"LengthZero", std::string(8, '\0'), "safetensors.header-length", "found 0"},
        Hostile{"LengthHuge", std::string(8, '\xff') + "{}", "safetensors.header-length",
                "18446744073709551615"},
        Hostile{"NoObject", File("[]", 0), "safetensors.header", "array"},
        Hostile{"EntryNoObject", File(R"({"a":1})", 0), "safetensors.header", "'a'"},
        Hostile{"NoDtype", One(R"("shape":[4],"data_offsets":[0,4])"), "safetensors.header",
                "no dtype"},
        Hostile{"NoOffsets", One(R"("dtype":"U8","shape":[4])"), "safetensors.header",
                "no data_offsets"},
        Hostile{"DtypeNumber", One(R"("dtype":3,"shape":[4],"data_offsets":[0,4])"),
                "safetensors.header", "3"},
        Hostile{"ShapeFraction", One(R"("dtype":"U8","shape":[4.0],"data_offsets":[0,4])"),
                "safetensors.shape", "a dimension is no count"},
        Hostile{"ShapeHidesOverflow",
                One(R"("dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0])", 0),
                "safetensors.shape-overflow", "4294967296"},
        Hostile{"Rank9", One(R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,4],"data_offsets":[0,4])"),
                "safetensors.rank", "9"},
        Hostile{"OneOffset", One(R"("dtype":"U8","shape":[4],"data_offsets":[4])"),
                "safetensors.offsets", "data_offsets"},
        Hostile{"NegativeOffset", One(R"("dtype":"U8","shape":[4],"data_offsets":[-4,0])"),
                "safetensors.offsets", "data_offsets"},
        Hostile{"WrongSize", One(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"),
                "safetensors.offsets", "8 bytes for F32 [2]"},
        Hostile{"HalfByte", One(R"("dtype":"F4","shape":[3],"data_offsets":[0,1])", 1),
                "safetensors.shape", "[3]"},
        Hostile{"Overlap",
                File(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                     R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
                     6),
                "safetensors.offsets", "overlap"},
        Hostile{"Twice",
                File(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                     R"("b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
                     4),
                "safetensors.offsets", "overlap"},
        Hostile{"FirstByteFree", One(R"("dtype":"U8","shape":[3],"data_offsets":[1,4])"),
                "safetensors.offsets", "hole"},
        Hostile{"Trailing", One(R"("dtype":"U8","shape":[4],"data_offsets":[0,4])", 5),
                "safetensors.trailing-bytes", "1 bytes"},
        Hostile{"MetadataNumber", File(R"({"__metadata__":{"n":1}})", 0), "safetensors.header",
                "__metadata__"},
        Hostile{"MetadataArray", File(R"({"__metadata__":[]})", 0), "safetensors.header",
                "__metadata__"},
        Hostile{"ShapeBool", One(R"("dtype":"U8","shape":[true],"data_offsets":[0,4])"),
                "safetensors.shape", "found true"},
        Hostile{"ShapeObject", One(R"("dtype":"U8","shape":{},"data_offsets":[0,4])"),
                "safetensors.shape", "an object"},
        Hostile{"ShapeBeyond64Bits",
                One(R"("dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,4])"),
                "safetensors.shape", "1.8446744073709552e+19"},
        Hostile{"OffsetsInWords", One(R"("dtype":"U8","shape":[4],"data_offsets":["0",4.0,9,9,9])"),
                "safetensors.offsets", R"(found ["0", 4.0, 9, 9, …])"},
        Hostile{"OffsetsNull", One(R"("dtype":"U8","shape":[4],"data_offsets":null)"),
                "safetensors.offsets", "found null"},
        Hostile{"TypeUnknown", One(R"("dtype":"F7","shape":[4],"data_offsets":[0,4])"),
                "safetensors.dtype", "F7"},
        Hostile{"TypeLowerCase", One(R"("dtype":"u8","shape":[4],"data_offsets":[0,4])"),
                "safetensors.dtype", "u8"},
        Hostile{"MemberTwice", One(R"("dtype":"U8","dtype":"I8","shape":[4],"data_offsets":[0,4])"),
                "json.duplicate-key", "dtype"},
        Hostile{"MemberUnknown",
                One(R"("dtype":"U8","shape":[4],"data_offsets":[0,4],"strides":[1])"),
                "safetensors.header", "strides"},
        Hostile{"NameTwiceByEscape",
                File(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                     R"("\u0061":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
                     4),
                "json.duplicate-key", "'a'"},
        // Offsets are those of the file: the header begins at byte 8.
        Hostile{"BehindTheHeader", File("{}{}", 0), "json.syntax", "byte offset 10"},
        Hostile{"BehindNul", File(std::string("{}\0{}", 5), 0), "json.syntax", "byte offset 10"},
        Hostile{"NulPadding", File(std::string("{}\0\0", 4), 0), "json.syntax", "byte offset 10"},
        Hostile{"ByteOrderMark", File("\xEF\xBB\xBF{}", 0), "json.syntax", "byte order mark"},
        Hostile{"SpaceBefore", File(" {}", 0), "safetensors.header", "' ' before it"},
        Hostile{"Comment", File("{/**/}", 0), "json.syntax", "byte offset 9"},
        Hostile{"NoUtf8", File("{\"\xFF\":1}", 0), "text.utf8", "byte offset 10"},
        Hostile{"HalfASurrogate", File(R"({"\ud800":1})", 0), "text.utf8", "byte offset 10"},
        Hostile{"Deep", File(std::string(65, '[') + std::string(65, ']'), 0), "json.depth",
                "byte offset 72"},
        Hostile{"LfsPointer", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
                "input.lfs-pointer", "LFS"}),
    [](const auto& test) { return std::string(test.param.name); });

// Every bit of the header flipped: an error, or a file that says something else.
TEST(Safetensors, FlippedAnywhere) {
  const std::string text = File(
      R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}}   )",
      5);
  const auto describe = [](const SafetensorsFile& file) {
    std::string all;
    for (const SafetensorsTensor& t : file.tensors()) {
      all += std::string(t.name) + " " + std::string(t.dtype_name) + " " + ShapeText(t.shape) + " " +
             std::to_string(t.file_offset) + " " + std::to_string(t.size_bytes) + "\n";
    }
    return all;
  };
  const std::string expected = describe(Opened(text).file);
  size_t n_opened = 0;
  for (size_t bit = 0; bit < 8 * (text.size() - 5); ++bit) {
    std::string flipped = text;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << bit % 8);
    try {
      const Opened opened(flipped);
      EXPECT_NE(describe(opened.file), expected) << "bit " << bit;
      ++n_opened;
    } catch (const Error& error) {
      EXPECT_TRUE(error.code() == ErrorCode::kData || error.code() == ErrorCode::kUnsupported)
          << error.what();
    }
  }
  EXPECT_GT(n_opened, 0u);  // a letter of a name, U8 as I8
}

// Every cut of a sound file is refused.
TEST(Safetensors, TruncatedAnywhere) {
  const std::string text = File(
      R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}})",
      5);
  EXPECT_EQ(Opened(text).file.tensors().size(), 2u);
  for (size_t n = 0; n < text.size(); ++n) {
    const std::string cut = text.substr(0, n);
    EXPECT_THROW(Opened{cut}, Error) << n;
  }
}

}  // namespace
}  // namespace quern
