#include "quant/recipe.h"

#include <gtest/gtest.h>

#include "formats/core/error.h"

namespace quern {
namespace {

TEST(Recipe, RulesComeInTheOrderOfTheLines) {
  const auto rules = ParseRecipe(
      "\xEF\xBB\xBF# a remark\r\n"
      "\n"
      "  attn_v =Q6_K   # more\r\n"
      "blk.0.* = q8_0\n"
      "blk.?.ffn#1=f16\n"
      "output=bf16",
      "r.txt");
  ASSERT_EQ(rules.size(), 4u);
  EXPECT_EQ(rules[0].role, TensorRole::kAttnV);
  EXPECT_EQ(rules[0].type, DType::kQ6_K);
  EXPECT_EQ(rules[0].origin, "recipe line 3");
  EXPECT_FALSE(rules[1].role);
  EXPECT_EQ(rules[1].pattern, "blk.0.*");
  EXPECT_EQ(rules[1].type, DType::kQ8_0);
  EXPECT_EQ(rules[2].pattern, "blk.?.ffn#1");
  EXPECT_EQ(rules[2].type, DType::kF16);
  EXPECT_EQ(rules[3].role, TensorRole::kOutput);
  EXPECT_EQ(rules[3].origin, "recipe line 6");
  EXPECT_TRUE(ParseRecipe("", "r.txt").empty());
  EXPECT_TRUE(ParseRecipe("# nothing\n\t\n", "r.txt").empty());
}

// Expects that the second line of a recipe is refused.
void ExpectRefused(std::string_view line, std::string_view id,
                   const std::vector<std::string>& words = {}) {
  try {
    (void)ParseRecipe("ffn_up = q4_0\n" + std::string(line) + "\nattn_q = q8_0\n", "dir/r.txt");
    ADD_FAILURE() << "accepted " << line;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kData);
    EXPECT_EQ(error.id(), id) << error.what();
    EXPECT_EQ(error.file(), "dir/r.txt");
    const std::string message = error.what();
    EXPECT_NE(message.find("line 2"), std::string::npos) << message;
    for (const std::string& word : words) {
      EXPECT_NE(message.find(word), std::string::npos) << word << " is not in: " << message;
    }
  }
}

TEST(Recipe, ErrorsNameTheLine) {
  ExpectRefused("attn_v", "recipe.rule", {"'attn_v'", "NAME = TYPE"});
  ExpectRefused(" = q4_0", "recipe.rule");
  ExpectRefused("attn_w = q4_0", "recipe.role", {"'attn_w'", "attn_output"});
  ExpectRefused("attn_v = q9_9", "recipe.type", {"'q9_9'", "iq4_xs"});
  ExpectRefused("attn_v = q4_k_m", "recipe.type", {"'q4_k_m'"});  // a preset is no type
  ExpectRefused("attn_v = iq1_s", "recipe.type", {"'iq1_s'"});    // nothing that quern encodes
  ExpectRefused("attn_v =", "recipe.type");
  ExpectRefused("ffn_up = q8_0", "recipe.duplicate", {"'ffn_up'", "line 1"});
  ExpectRefused(std::string(257, '*') + " = q8_0", "recipe.rule", {"256"});
}

TEST(Recipe, BytesThatAreNoTextAreRefused) {
  ExpectRefused(std::string_view("a.\0 = q4_0", 10), "recipe.text", {"\\x00"});
  ExpectRefused("\x1b[2J = q4_0", "recipe.text", {"\\x1b"});
  ExpectRefused("\xff\xfe = q4_0", "recipe.text", {"\\xff"});
  ExpectRefused("\x7f", "recipe.text");
}

TEST(Recipe, ThereIsAMostOfRules) {
  std::string text;
  for (size_t i = 0; i < kRecipeMaxRules; ++i) text += "t." + std::to_string(i) + " = q4_0\n";
  EXPECT_EQ(ParseRecipe(text, "r").size(), kRecipeMaxRules);
  EXPECT_THROW((void)ParseRecipe(text + "t.x = q4_0\n", "r"), Error);
}

}  // namespace
}  // namespace quern
