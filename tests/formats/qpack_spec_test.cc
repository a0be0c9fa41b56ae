// Holds formats/QPACK.md to the code: the little decoder, which knows the document only, unpacks
// what quern packs; the worked example is what quern writes; every error id is listed.
#include <filesystem>
#include <regex>
#include <set>

#include "tests/formats/qpack_little_decoder.h"
#include "tests/formats/qpack_testing.h"

namespace quern {
namespace {

using testing::Bytes;
using testing::Packed;

constexpr char kDocument[] = QUERN_SOURCE_DIR "/formats/QPACK.md";

// Returns the bytes of the n-th fenced block of hex in a document.
Bytes HexBlock(const char* document, size_t n) {
  std::ifstream lines(document);
  Bytes bytes;
  bool is_inside = false;
  size_t block = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line == "```hex") {
      is_inside = block++ == n;
    } else if (line == "```") {
      is_inside = false;
    } else if (is_inside) {
      std::istringstream words(line);
      std::string offset, byte;
      words >> offset;
      EXPECT_EQ(std::stoul(offset, nullptr, 16), bytes.size());
      while (words >> byte) bytes.push_back(static_cast<uint8_t>(std::stoul(byte, nullptr, 16)));
    }
  }
  return bytes;
}

TEST(QpackSpecification, TheTableOfTypesIsThatOfTheCode) {
  const auto types = little::TypesOf(kDocument);
  ASSERT_EQ(types.size(), AllLayouts().size());
  for (const BlockLayout& layout : AllLayouts()) {
    SCOPED_TRACE(std::string(layout.name));
    const little::Type& type = types.at(layout.gguf_id);
    EXPECT_EQ(type.elems, layout.block_elems);
    EXPECT_EQ(type.bytes, layout.block_bytes);
    ASSERT_EQ(type.fields.size(), layout.n_fields);
    for (size_t i = 0; i < type.fields.size(); ++i) {
      const std::string digits = type.fields[i].substr(type.fields[i].find_first_of("0123456789"));
      EXPECT_EQ(std::stoul(digits), layout.fields()[i].size_bytes);
    }
  }
}

TEST(QpackSpecification, TheLittleDecoderUnpacksEverything) {
  const auto types = little::TypesOf(kDocument);
  std::vector<Bytes> files = {testing::SmallLlama(1).Build(),
                              testing::SmallLlama(2, 64).Build(),
                              testing::SmallLlama().Build(),
                              testing::EveryType(5).Build(),
                              testing::EveryType(400).Build(),
                              testing::GgufBuilder().Build(),
                              testing::GgufBuilder().Tensor("a", {8, 0}, 0, {}).Build()};
  files.push_back(files[2]);
  const Bytes more = testing::Pattern(9000);
  files.back().insert(files.back().end(), more.begin(), more.end());
  for (size_t i = 0; i < files.size(); ++i) {
    for (const uint32_t segment_bytes : {4096u, 1u << 20}) {
      for (const int level : {1, 3}) {
        const Bytes qpack = Packed(files[i], {.level = level, .segment_bytes = segment_bytes});
        EXPECT_EQ(little::Unpack(qpack, types), files[i]) << i;
      }
    }
  }
}

TEST(QpackSpecification, TheWorkedExampleIsReadAndWritten) {
  const Bytes qpack = HexBlock(kDocument, 0);
  const Bytes gguf = HexBlock(QUERN_SOURCE_DIR "/formats/GGUF.md", 1);
  ASSERT_EQ(gguf.size(), 216U);
  EXPECT_EQ(little::Unpack(qpack, little::TypesOf(kDocument)), gguf);
  EXPECT_EQ(testing::Unpacked(qpack), gguf);
  // Other versions of zstd may code shorter.
  if (ZSTD_versionNumber() == 10504) {
    EXPECT_EQ(Packed(gguf), qpack);
  }
}

TEST(QpackSpecification, EveryErrorIdIsListed) {
  const std::string text = ReadWholeFile(kDocument, 1 << 20);
  std::set<std::string> ids;
  const std::regex id("\"(qpack\\.[a-z]+(-[a-z]+)*)\"");
  for (const auto& entry : std::filesystem::directory_iterator(QUERN_SOURCE_DIR "/formats")) {
    if (!entry.path().filename().string().starts_with("qpack_")) continue;
    const std::string source = ReadWholeFile(entry.path().string(), 1 << 20);
    for (std::sregex_iterator it(source.begin(), source.end(), id), end; it != end; ++it) {
      ids.insert((*it)[1].str());
    }
  }
  EXPECT_GE(ids.size(), 6U);
  for (const std::string& name : ids)
    EXPECT_NE(text.find("`" + name + "`"), std::string::npos) << name;
}

}  // namespace
}  // namespace quern
