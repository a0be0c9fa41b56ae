#include "formats/core/error.h"

#include <gtest/gtest.h>

#include <string>

namespace quern {
namespace {

TEST(Error, MessageHasEveryPartInOrder) {
  Error error = DataError("gguf.n-dims", "bad rank");
  error.File("m.gguf")
      .Where("tensor 't'")
      .Offset(40)
      .Found("5")
      .Expected("1 to 4")
      .Hint("fetch it again");
  EXPECT_STREQ(
      error.what(),
      "m.gguf: bad rank, tensor 't' (byte offset 40), found 5, expected 1 to 4 [gguf.n-dims]");
  EXPECT_EQ(error.hint(), "fetch it again");
  EXPECT_EQ(static_cast<int>(error.code()), 3);
}

TEST(Error, EscapesWhatCouldSteerATerminal) {
  EXPECT_EQ(Quoted("\x1b]0;pwn\x07"), "'\\x1b]0;pwn\\x07'");
  EXPECT_EQ(Quoted(std::string_view("a\0b", 3)), "'a\\x00b'");
  EXPECT_EQ(Quoted("\xC2\x9B"
                   "2J"),
            "'\\xc2\\x9b2J'");
  EXPECT_EQ(Quoted("it's \\"), "'it\\x27s \\x5c'");
  EXPECT_EQ(Quoted("▁né"), "'▁né'");
  EXPECT_EQ(Quoted("\xC3("), "'\\xc3('");
}

TEST(Error, CutsLongNames) { EXPECT_EQ(Escaped(std::string(1000, 'x'), 10), "xxxxxxxxxx…"); }

TEST(Utf8, AcceptsAndRefusesByRfc3629) {
  size_t bad = 99;
  EXPECT_TRUE(IsUtf8("aé▁🦙"));
  EXPECT_FALSE(IsUtf8("a\xC0\x80", &bad));  // Overlong.
  EXPECT_EQ(bad, 1u);
  EXPECT_FALSE(IsUtf8("\xED\xA0\x80"));      // A surrogate.
  EXPECT_FALSE(IsUtf8("\xF4\x90\x80\x80"));  // Above U+10FFFF.
  EXPECT_FALSE(IsUtf8("\xE2\x96"));          // Cut short.
  EXPECT_TRUE(IsUtf8("\xF4\x8F\xBF\xBF"));
}

}  // namespace
}  // namespace quern
