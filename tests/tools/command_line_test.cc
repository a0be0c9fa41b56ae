#include "tools/command_line.h"

#include <gtest/gtest.h>

#include "formats/core/error.h"

namespace quern {
namespace {

using Asks = CommandLine::Asks;
using Words = std::vector<std::string>;

TEST(CommandLineTest, TellsWhatIsAsked) {
  struct Case {
    Words words;
    Asks asks;
    std::string command;
  };
  for (const Case& c : {
           Case{{}, Asks::kBriefHelp, ""},
           Case{{"-q"}, Asks::kBriefHelp, ""},
           Case{{"--help"}, Asks::kHelp, ""},
           Case{{"help"}, Asks::kHelp, ""},
           Case{{"help", "version"}, Asks::kHelp, ""},
           Case{{"version", "-h"}, Asks::kHelp, ""},
           Case{{"help", "check"}, Asks::kCommandHelp, "check"},
           Case{{"check", "-h"}, Asks::kCommandHelp, "check"},
           Case{{"-h", "check", "ck"}, Asks::kCommandHelp, "check"},
           Case{{"--version"}, Asks::kVersion, ""},
           Case{{"version", "--json"}, Asks::kVersion, ""},
           Case{{"check", "ck", "--version"}, Asks::kVersion, "check"},
           Case{{"check", "ck"}, Asks::kCommand, "check"},
           Case{{"-q", "--threads", "2", "check", "--json", "--", "-ck"}, Asks::kCommand, "check"},
       }) {
    CommandLine line;
    line.Parse(c.words);
    SCOPED_TRACE(::testing::PrintToString(c.words));
    EXPECT_EQ(line.asks(), c.asks);
    EXPECT_EQ(line.info() == nullptr ? "" : line.info()->name, c.command);
  }
}

TEST(CommandLineTest, CommonFlagsStandBeforeAndBehindTheCommand) {
  CommandLine line;
  line.Parse({"-q", "--threads", "3", "check", "ck", "--memory=2GiB", "--json=r.json"});
  Terminal terminal("check");
  const Session session = SessionOf(line.common(), terminal);
  EXPECT_EQ(session.threads, 3u);
  EXPECT_EQ(session.memory_bytes, uint64_t{2} << 30);
  EXPECT_EQ(session.json, "r.json");
  EXPECT_TRUE(TerminalOptionsOf(line.common()).quiet);
}

TEST(CommandLineTest, RefusesWithoutDoingAnything) {
  struct Case {
    Words words;
    std::string id, command;
  };
  for (const Case& c : {
           Case{{"chek", "ck"}, "usage.unknown-command", ""},
           Case{{"--thread", "check"}, "usage.unknown-flag", ""},
           Case{{"check", "--no-weight"}, "usage.unknown-flag", "check"},
           Case{{"check", "a", "b"}, "usage.extra-argument", "check"},
           Case{{"check", "--threads"}, "usage.flag-value", "check"},
           Case{{"check", ""}, "usage.empty-value", "check"},
       }) {
    SCOPED_TRACE(::testing::PrintToString(c.words));
    CommandLine line;
    try {
      line.Parse(c.words);
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      EXPECT_EQ(error.id(), c.id) << error.what();
      EXPECT_EQ(line.info() == nullptr ? "" : line.info()->name, c.command);
    }
  }
  Terminal terminal("");
  CommonFlags common;
  common.threads = "0";
  EXPECT_THROW(SessionOf(common, terminal), Error);
  common = {};
  common.memory = "-5";
  EXPECT_THROW(SessionOf(common, terminal), Error);
  common = {};
  common.progress = "sometimes";
  EXPECT_THROW(TerminalOptionsOf(common), Error);
}

}  // namespace
}  // namespace quern
