#include <gtest/gtest.h>

#include "formats/core/error.h"
#include "tools/command.h"

namespace quern {
namespace {

TEST(ParseSize, UnderstandsUnits) {
  EXPECT_EQ(ParseSize("--memory", "4096"), 4096u);
  EXPECT_EQ(ParseSize("--memory", "512MiB"), uint64_t{512} << 20);
  EXPECT_EQ(ParseSize("--memory", "2g"), uint64_t{2} << 30);
  EXPECT_EQ(ParseSize("--memory", "1.5GiB"), uint64_t{3} << 29);
  EXPECT_EQ(ParseSize("--memory", "3MB"), 3'000'000u);
}

TEST(ParseSize, RefusesEverythingElse) {
  for (const auto* text :
       {"", "-5", "5 MiB", "MiB", "1e99", "nan", "inf", "0", "12q", "99999999999TiB", "0x10"}) {
    EXPECT_THROW(ParseSize("--memory", text), Error) << text;
  }
}

TEST(ParseCount, KeepsToItsRange) {
  EXPECT_EQ(ParseCount("--threads", "7", 1, 1024), 7u);
  for (const auto* text : {"", "0", "1025", "-1", "+1", "1.5", "1 ", "18446744073709551616"}) {
    EXPECT_THROW(ParseCount("--threads", text, 1, 1024), Error) << text;
  }
}

TEST(ParseCount, MessageNamesFlagAndRange) {
  try {
    ParseCount("--threads", "x", 1, 1024);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_STREQ(error.what(),
                 "--threads takes a whole number from 1 to 1024, not 'x' [usage.flag-value]");
  }
}

}  // namespace
}  // namespace quern
