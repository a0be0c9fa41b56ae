#include "tools/suggest.h"

#include <gtest/gtest.h>

namespace quern {
namespace {

TEST(NearestWord, FindsWhatWasMeant) {
  const std::vector<std::string> commands = {"convert", "quantize", "inspect", "perplexity",
                                             "types"};
  EXPECT_EQ(NearestWord("quantise", commands), "quantize");
  EXPECT_EQ(NearestWord("CONVERT", commands), "convert");
  EXPECT_EQ(NearestWord("covnert", commands), "convert");
  EXPECT_EQ(NearestWord("perplexty", commands), "perplexity");
  EXPECT_EQ(NearestWord("q4-O", {"q4_1", "q4_0"}), "q4_0");
  EXPECT_EQ(NearestWord("--tpye", {"--text", "--type", "--tensor"}), "--type");
}

TEST(NearestWord, SaysNothingRatherThanNonsense) {
  EXPECT_EQ(NearestWord("serve", {"convert", "quantize"}), "");
  EXPECT_EQ(NearestWord("x", {}), "");
  EXPECT_EQ(NearestWord(std::string(1000, 'a'), {"a"}), "");
}

}  // namespace
}  // namespace quern
