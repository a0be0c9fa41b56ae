#include "tools/terminal.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>

namespace quern {
namespace {

TEST(HumanBytes, ThreeDigitsAndAUnit) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(1024), "1.0 KiB");
  EXPECT_EQ(HumanBytes(1023 * 1024 + 1023), "1.0 MiB");
  EXPECT_EQ(HumanBytes(13'500'000'000), "12.6 GiB");
  EXPECT_EQ(HumanBytes(~uint64_t{0}), "16.0 EiB");
}

// Runs `use` on a terminal and returns what it wrote to standard error.
std::string Stderr(const Terminal::Options& options, const std::function<void(Terminal&)>& use) {
  testing::internal::CaptureStderr();
  {
    Terminal terminal("convert");
    terminal.Configure(options);
    use(terminal);
  }
  return testing::internal::GetCapturedStderr();
}

TEST(Terminal, ProgressOnlyWhenAsked) {
  const auto work = [](Terminal& terminal) {
    terminal.Begin("reading", 100, "bytes");
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    terminal.Advance(50);
    terminal.End();
  };
  EXPECT_EQ(Stderr({}, work), "");
  const std::string shown = Stderr({.progress = true}, work);
  EXPECT_NE(shown.find("reading  50 %  50 B of 100 B"), std::string::npos) << shown;
  EXPECT_NE(shown.find("left"), std::string::npos) << shown;
  EXPECT_TRUE(shown.ends_with("\r\x1b[K")) << shown;
}

TEST(Terminal, QuietSilencesAllButErrors) {
  const auto work = [](Terminal& terminal) {
    terminal.Warn("w");
    terminal.Note("n");
    terminal.Info("i");
    terminal.ShowError("e", "h");
  };
  EXPECT_EQ(Stderr({.quiet = true}, work), "quern convert: error: e\nhint: h\n");
  EXPECT_EQ(Stderr({}, work),
            "quern convert: warning: w\nquern convert: n\nquern convert: error: e\nhint: h\n");
  EXPECT_NE(Stderr({.verbose = true}, work).find("quern convert: i\n"), std::string::npos);
}

}  // namespace
}  // namespace quern
