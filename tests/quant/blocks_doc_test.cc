// quant/BLOCKS.md is normative: its tables agree with the layouts, and its examples decode.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <sstream>

#include "tests/quant/vectors.h"

namespace quern {
namespace {

struct Example {
  std::vector<uint8_t> bytes;
  std::map<uint64_t, float> values;
  double sum = NAN;  // of (k + 1) * y[k]; NaN if the example gives none
};

struct Document {
  std::map<std::string, std::array<double, 4>> map;  // id, elements, bytes, bits
  std::map<std::string, std::vector<std::pair<unsigned, unsigned>>> fields;
  std::map<std::string, Example> examples;
};

std::string Trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(' ');
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

std::vector<std::string> Cells(const std::string& line) {
  std::vector<std::string> cells;
  std::istringstream in(line.substr(1));
  for (std::string cell; std::getline(in, cell, '|');) cells.push_back(Trimmed(cell));
  return cells;
}

void ReadExampleLine(const std::string& line, Example& example) {
  if (line.rfind("sum:", 0) == 0) {
    example.sum = std::stod(line.substr(4));
  } else if (line.find(':') == std::string::npos) {
    for (size_t i = 0; i + 1 < line.size(); i += 2) {
      example.bytes.push_back(static_cast<uint8_t>(std::stoul(line.substr(i, 2), nullptr, 16)));
    }
  } else {
    std::istringstream words(line);
    for (std::string word; words >> word;) {
      const size_t colon = word.find(':');
      example.values[std::stoul(word)] = std::strtof(word.c_str() + colon + 1, nullptr);
    }
  }
}

Document ReadDocument() {
  std::ifstream in(QUERN_SOURCE_DIR "/quant/BLOCKS.md");
  Document document;
  std::string section, block;
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("```", 0) == 0) {
      block = line.rfind("```block ", 0) == 0 ? line.substr(9) : "";
    } else if (!block.empty()) {
      ReadExampleLine(line, document.examples[block]);
    } else if (line.rfind("## ", 0) == 0) {
      section = line.substr(3);
    } else if (line.rfind("| ", 0) == 0) {
      const auto cells = Cells(line);
      if (section == "Map" && cells[0] != "type") {
        for (size_t i = 0; i < 4; ++i) document.map[cells[0]][i] = std::stod(cells[i + 1]);
      } else if (DTypeFromName(section) && cells[0] != "offset") {
        document.fields[section].emplace_back(std::stoul(cells[0]), std::stoul(cells[1]));
      }
    }
  }
  return document;
}

TEST(BlocksDocument, TablesAgreeWithTheLayouts) {
  const Document document = ReadDocument();
  for (const BlockCodec* codec : AllCodecs()) {
    const BlockLayout& layout = LayoutOf(codec->type);
    const std::string name(layout.name);
    ASSERT_TRUE(document.map.count(name)) << name;
    EXPECT_EQ(document.map.at(name),
              (std::array<double, 4>{static_cast<double>(layout.gguf_id),
                                     static_cast<double>(layout.block_elems),
                                     static_cast<double>(layout.block_bytes),
                                     layout.bits_per_weight()}))
        << name;
    if (layout.block_elems == 1) continue;
    std::vector<std::pair<unsigned, unsigned>> fields;
    for (const BlockField& field : layout.fields()) {
      fields.emplace_back(field.offset_bytes, field.size_bytes);
    }
    ASSERT_TRUE(document.fields.count(name)) << name;
    EXPECT_EQ(document.fields.at(name), fields) << name;
  }
}

TEST(BlocksDocument, ExamplesDecode) {
  const Document document = ReadDocument();
  for (const BlockCodec* codec : AllCodecs()) {
    const std::string name(NameOf(codec->type));
    ASSERT_TRUE(document.examples.count(name)) << name;
    const Example& example = document.examples.at(name);
    ASSERT_EQ(example.bytes.size(), LayoutOf(codec->type).block_bytes) << name;
    ASSERT_FALSE(example.values.empty()) << name;
    const auto y = Decoded(*codec, example.bytes);
    for (const auto& [k, value] : example.values) EXPECT_EQ(y.at(k), value) << name << " y" << k;
    if (!std::isnan(example.sum)) {
      double sum = 0;
      for (size_t k = 0; k < y.size(); ++k) sum += static_cast<double>(k + 1) * static_cast<double>(y[k]);
      EXPECT_NEAR(sum, example.sum, 1e-8 * std::fabs(example.sum)) << name;
    }
  }
}

}  // namespace
}  // namespace quern
