#include "formats/text_index.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "formats/core/string_list.h"

namespace quern {
namespace {

TEST(TextIndexTest, FindsTheFirstPlaceOfEveryTextAndNothingElse) {
  for (const size_t n : {size_t{0}, size_t{1}, size_t{2}, size_t{3}, size_t{1000}, size_t{70000}}) {
    std::mt19937 random(static_cast<unsigned>(n));
    StringList list;
    std::unordered_map<std::string, uint32_t> expected;
    for (uint32_t i = 0; i < n; ++i) {
      const std::string text(random() % 4, static_cast<char>('a' + random() % 3));
      const std::string unique = random() % 2 ? text : text + std::to_string(random() % n);
      list.push_back(unique);
      expected.emplace(unique, i);
    }
    const TextIndex index(list);
    for (const auto& [text, place] : expected) EXPECT_EQ(index.Find(text), place) << text;
    for (int i = 0; i < 1000; ++i) {
      const std::string text = "b" + std::to_string(random());
      EXPECT_EQ(index.Has(text), expected.contains(text)) << text;
    }
  }
}

TEST(TextIndexTest, NullTextsAreHoles) {
  const std::vector<std::string_view> texts = {{}, "a", {}, ""};
  const TextIndex index(texts);
  EXPECT_EQ(index.Find("a"), 1u);
  EXPECT_EQ(index.Find(""), 3u);  // a text of no bytes is a text
  EXPECT_FALSE(TextIndex(std::vector<std::string_view>(5)).Has(""));
}

// Equal hashes, as an attacker makes them, cost no more than different ones: searches go by halves.
TEST(TextIndexTest, ManyEqualTextsAreNoFlood) {
  const std::vector<std::string> texts(1 << 20, "the same");
  const TextIndex index(texts);
  for (int i = 0; i < 100000; ++i) ASSERT_EQ(index.Find("the same"), 0u);
}

}  // namespace
}  // namespace quern
