// Holds formats/GGUF.md to the code: the worked example is parsed and written again, the table of
// keys is in the order in which they are written, and every error id of the sources is listed.
#include <filesystem>
#include <regex>
#include <set>
#include <sstream>

#include "formats/gguf_metadata.h"
#include "formats/integrity_trailer.h"
#include "tests/formats/gguf_builder.h"
#include "tests/formats/testing.h"

namespace quern {
namespace {

std::string Specification() { return ReadWholeFile(QUERN_SOURCE_DIR "/formats/GGUF.md", 1 << 20); }

// Returns the bytes of the n-th fenced block of hex, checking the offsets in front of its lines.
std::vector<uint8_t> HexBlock(size_t n) {
  std::istringstream lines(Specification());
  std::vector<uint8_t> bytes;
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

TEST(GgufSpecification, TheWorkedExampleIsReadAndWritten) {
  const auto bytes = HexBlock(0);
  ASSERT_EQ(bytes.size(), 224U);
  const GgufFile file(testing::InMemory(bytes));
  const Manifest& m = file.manifest();
  EXPECT_EQ(file.layout().version, 3U);
  EXPECT_EQ(file.layout().header_bytes, 0xB3U);
  ASSERT_EQ(m.metadata.size(), 3U);
  EXPECT_EQ(m.metadata[0], (MetadataEntry{"general.architecture", MetadataValue::Text("llama")}));
  EXPECT_EQ(m.metadata[1], (MetadataEntry{"a.u32", MetadataValue::U32(7)}));
  EXPECT_EQ(m.metadata[2].value.ToString(), "STRING[2]: 'x', 'yz'");
  ASSERT_EQ(m.tensors.size(), 1U);
  EXPECT_EQ(m.tensors[0].name, "t");
  EXPECT_EQ(m.tensors[0].shape, (Shape{2, 3}));
  const auto data = testing::TensorBytes(file, 0);
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(LoadLE<float>(&data[4 * i]), static_cast<float>(i));
  EXPECT_EQ(testing::WriteGguf(file), bytes);
}

TEST(GgufSpecification, TheWorkedTrailerIsReadAndWritten) {
  const auto bytes = HexBlock(1);
  ASSERT_EQ(bytes.size(), 216U);
  const GgufFile file(testing::InMemory(bytes));
  EXPECT_TRUE(CheckGgufIntegrity(file).empty());
  // The hashes as the table has them, computed with xxHash's own program.
  EXPECT_EQ(file.layout().trailer_key, 0xad662f6c457006b6U);
  EXPECT_EQ(FindTrailer(bytes), (IntegrityTrailer{0xf5a4bcdfcba92c8f, 0x926fffe97615c6d4,
                                                  {0x4de8d78f7134f4b7}}));
  EXPECT_EQ(LoadLE<uint64_t>(&bytes[0xD0]), 0x742cdec78ca057a1U);
  std::vector<uint8_t> out;
  const auto sink = MakeGgufWriter(std::make_unique<testing::VectorOutput>(out), {.trailer = true});
  sink->Begin(file.manifest());
  sink->Put({0, 0, 1, testing::TensorBytes(file, 0)});
  sink->Finish();
  EXPECT_EQ(out, bytes);
}

TEST(GgufSpecification, TheTableOfKeysIsInTheOrderOfWriting) {
  const std::string text = Specification();
  const std::string section =
      text.substr(text.find("## 6. Keys"), text.find("## 7. Tensors") - text.find("## 6. Keys"));
  std::vector<std::string> listed;
  const std::regex row("\n\\| (`[a-zA-Z_.]+`|\\*others\\*) \\| ([A-Z0-9a-z ]*) ?\\|");
  for (std::sregex_iterator it(section.begin(), section.end(), row), end; it != end; ++it) {
    listed.push_back((*it)[1].str() + " " + (*it)[2].str());
  }
  // A manifest in which every key has a value.
  const auto bytes = testing::SmallLlama().Build();
  Manifest m = GgufFile(testing::InMemory(bytes)).manifest();
  m.metadata = {{"others", MetadataValue::U32(0)}};
  m.provenance = {"1", "2", "3"};
  m.alignment = 64;
  m.spec->head_dim = 16;
  m.spec->rope_linear_factor = 2;
  Tokenizer& t = m.tokenizer;
  t.merges = {"a b"};
  t.pad_id = t.eot_id = t.eom_id = t.fim_prefix_id = t.fim_suffix_id = t.fim_middle_id = 0;
  t.add_eos = t.add_space_prefix = true;
  t.chat_template = "x";
  std::vector<std::string> written;
  for (const auto& [key, value] : MetadataFromManifest(m)) {
    std::string name = key.starts_with("llama.") ? "ARCH" + key.substr(5) : key;
    std::string type(NameOf(value.type));
    if (value.type == MetadataType::kArray)
      type += " of " + std::string(NameOf(value.array().elem_type));
    written.push_back(key == "others" ? "*others* " : "`" + name + "` " + type);
  }
  ASSERT_EQ(listed.size(), written.size());
  for (size_t i = 0; i < listed.size(); ++i) {
    EXPECT_EQ(std::regex_replace(listed[i], std::regex(" +$"), ""),
              std::regex_replace(written[i], std::regex(" +$"), ""));
  }
}

TEST(GgufSpecification, EveryErrorIdIsListed) {
  const std::string text = Specification();
  std::set<std::string> ids;
  const std::regex id("\"((gguf|model|tokenizer|trailer)\\.[a-z]+(-[a-z]+)*)\"");
  for (const auto& entry : std::filesystem::directory_iterator(QUERN_SOURCE_DIR "/formats")) {
    const std::string name = entry.path().filename().string();
    const bool is_ours = name.starts_with("gguf_") || name.starts_with("integrity_");
    if (!is_ours || !name.ends_with(".cc")) continue;
    const std::string source = ReadWholeFile(entry.path().string(), 1 << 20);
    for (std::sregex_iterator it(source.begin(), source.end(), id), end; it != end; ++it) {
      ids.insert((*it)[1]);
    }
  }
  EXPECT_GT(ids.size(), 25U);
  for (const auto& one : ids) EXPECT_NE(text.find("`" + one + "`"), std::string::npos) << one;
}

}  // namespace
}  // namespace quern
