#include "converters/checklist.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/converters/test_support.h"

namespace quern {
namespace {

using testing::TempFolder;

constexpr char kMd5OfAbc[] = "900150983cd24fb0d6963f7d28e17f72";  // RFC 1321, A.5

void Write(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

TEST(ParseChecklist, TakesBothModesOfMd5sum) {
  const Checklist list = ParseChecklist(std::string(kMd5OfAbc) + "  a.pth\n" + kMd5OfAbc +
                                        " *b.pth\r\n\n900150983CD24FB0D6963F7D28E17F72  C d.pth");
  ASSERT_EQ(list.entries.size(), 3u);
  EXPECT_TRUE(list.malformed_lines.empty());
  EXPECT_EQ(list.entries[0].file, "a.pth");
  EXPECT_EQ(list.entries[1].file, "b.pth");
  EXPECT_EQ(list.entries[2].file, "C d.pth");
  EXPECT_EQ(list.entries[2].md5, kMd5OfAbc);
}

TEST(ParseChecklist, TakesNamesWithADotFolder) {
  const std::string md5 = kMd5OfAbc;
  const Checklist list =
      ParseChecklist(md5 + "  ./a.pth\n" + md5 + "  ././a\n" + md5 + "  ./\n" + md5 + "  ./..\n");
  ASSERT_EQ(list.entries.size(), 1u);
  EXPECT_EQ(list.entries[0].file, "a.pth");
  EXPECT_EQ(list.malformed_lines, (std::vector<size_t>{2, 3, 4}));
}

TEST(ParseChecklist, ListsMalformedLines) {
  const std::string md5 = kMd5OfAbc;
  const Checklist list = ParseChecklist("oops\n" + md5 + " a\n" + md5 + "  ok\n" + md5.substr(1) +
                                        "  short\n" + md5 + "  ../evil\n" + md5 + "  ..\n" + md5 +
                                        "  \nz" + md5.substr(1) + "  x\n");
  ASSERT_EQ(list.entries.size(), 1u);
  EXPECT_EQ(list.entries[0].file, "ok");
  EXPECT_EQ(list.malformed_lines, (std::vector<size_t>{1, 2, 4, 5, 6, 7, 8}));
}

TEST(VerifyChecklist, FindsNothingInTheFixture) {
  EXPECT_TRUE(VerifyChecklist(std::string(QUERN_TEST_DATA) + "/fixture/meta-2").empty());
}

TEST(VerifyChecklist, FindsEveryFault) {
  const TempFolder parent;
  const std::string folder = parent / "7B";
  std::filesystem::create_directory(folder);
  Write(folder + "/good", "abc");
  Write(folder + "/bad", "abd");
  Write(folder + "/params.json", "{}");
  const std::string md5 = kMd5OfAbc;
  Write(folder + "/checklist.chk", md5 + "  good\n" + md5 + "  bad\n" + md5 + "  params.json\n" +
                                       md5 + "  gone\nimproperly formatted\n");
  Write(parent / "tokenizer.model", "abc");
  Write(parent / "tokenizer_checklist.chk", md5 + "  tokenizer.model\n");
  const auto findings = VerifyChecklist(folder);
  ASSERT_EQ(findings.size(), 4u);
  EXPECT_EQ(findings[0].id, "checklist.line");
  EXPECT_EQ(findings[0].severity, Finding::Severity::kWarning);
  EXPECT_NE(findings[0].line.find("line 5"), std::string::npos);
  EXPECT_EQ(findings[1].id, "checklist.md5");
  EXPECT_EQ(findings[1].severity, Finding::Severity::kError);
  EXPECT_NE(findings[1].line.find("/bad"), std::string::npos);
  EXPECT_NE(findings[1].line.find(md5), std::string::npos);
  EXPECT_EQ(findings[2].id, "checklist.md5");
  EXPECT_EQ(findings[2].severity, Finding::Severity::kWarning);
  EXPECT_NE(findings[2].line.find("params.json"), std::string::npos);
  EXPECT_EQ(findings[3].id, "checklist.missing-file");
  EXPECT_NE(findings[3].line.find("'gone'"), std::string::npos);

  Write(parent / "tokenizer.model", "abcd");
  EXPECT_EQ(VerifyChecklist(folder).size(), 5u);

  NullLog log;
  testing::ExpectError(testing::Caught([&] { RequireChecklist(folder, log); }), ErrorCode::kData,
                       "checklist.md5", {"/bad", md5});
  Write(folder + "/checklist.chk", md5 + "  good\n" + md5 + "  params.json\n");
  Write(parent / "tokenizer.model", "abc");
  RequireChecklist(folder, log);
  std::filesystem::remove(folder + "/good");
  testing::ExpectError(testing::Caught([&] { RequireChecklist(folder, log); }), ErrorCode::kData,
                       "checklist.missing-file", {"checklist.chk", "'good'"});
}

std::vector<std::string> IdsOf(const std::vector<Finding>& findings) {
  std::vector<std::string> ids;
  for (const Finding& finding : findings) ids.push_back(finding.id);
  return ids;
}

// A folder with one shard "abc", params.json and the checklist `text`.
void WriteFolder(const TempFolder& folder, const std::string& text) {
  Write(folder / "consolidated.00.pth", "abc");
  Write(folder / "params.json", "abc");
  Write(folder / "checklist.chk", text);
}

TEST(VerifyChecklist, NothingVerifiedIsNoSuccess) {
  const std::string md5 = kMd5OfAbc;
  struct Case {
    std::string text, id;
    Finding::Severity severity;
  };
  const auto error = Finding::Severity::kError, warning = Finding::Severity::kWarning;
  for (const Case& c : {
           Case{"", "checklist.empty", error},
           Case{"\n\r\n", "checklist.empty", error},
           Case{"nothing of md5sum's form\n", "checklist.empty", error},
           Case{"<!DOCTYPE html><html>\n" + md5 + "  params.json\n", "input.html", error},
           Case{"version https://git-lfs.github.com/spec/v1\n", "input.lfs-pointer", error},
           Case{std::string((1u << 20) + 1, '\n'), "file.too-large", error},
           Case{md5 + "  params.json\n", "checklist.unlisted", warning},
           Case{md5 + "  params.json\n" + md5 + "  consolidated.000.pth\n",
                "checklist.missing-file", error},
       }) {
    const TempFolder folder;
    WriteFolder(folder, c.text);
    const auto findings = VerifyChecklist(folder.path());
    ASSERT_FALSE(findings.empty()) << c.id;
    EXPECT_EQ(findings[0].id, c.id);
    EXPECT_EQ(findings[0].severity, c.severity) << c.id;
    EXPECT_NE(findings[0].line.find("checklist.chk"), std::string::npos) << findings[0].line;
    NullLog log;
    const Error refusal = testing::Caught([&] { RequireChecklist(folder.path(), log); });
    EXPECT_EQ(refusal.id(), c.id == "checklist.missing-file" ? "checklist.unlisted" : c.id);
  }
  const TempFolder folder;
  WriteFolder(folder, md5 + " *./consolidated.00.pth\n");
  EXPECT_TRUE(VerifyChecklist(folder.path()).empty());
  NullLog log;
  RequireChecklist(folder.path(), log);
  // A tokenizer's checklist alone says nothing of the weights.
  std::filesystem::rename(folder / "checklist.chk", folder / "tokenizer_checklist.chk");
  EXPECT_EQ(IdsOf(VerifyChecklist(folder.path())), std::vector<std::string>{"checklist.absent"});
  testing::ExpectError(testing::Caught([&] { RequireChecklist(folder.path(), log); }),
                       ErrorCode::kData, "checklist.absent", {});
}

TEST(VerifyChecklist, OneBadNeighbourHidesNothing) {
  const TempFolder folder;
  const std::string md5 = kMd5OfAbc;
  WriteFolder(folder, md5 + "  folder\n" + md5 + "  fifo\n" + md5 + "  consolidated.00.pth\n");
  std::filesystem::create_directory(folder / "folder");
  ASSERT_EQ(mkfifo((folder / "fifo").c_str(), 0600), 0);
  Write(folder / "consolidated.00.pth", "abd");
  const auto findings = VerifyChecklist(folder.path());
  EXPECT_EQ(IdsOf(findings), (std::vector<std::string>{"file.kind", "file.kind", "checklist.md5"}));
  EXPECT_NE(findings[0].line.find("/folder"), std::string::npos) << findings[0].line;
  EXPECT_NE(findings[1].line.find("/fifo"), std::string::npos) << findings[1].line;
  std::filesystem::remove(folder / "checklist.chk");
  ASSERT_EQ(mkfifo((folder / "checklist.chk").c_str(), 0600), 0);
  EXPECT_EQ(IdsOf(VerifyChecklist(folder.path())), std::vector<std::string>{"file.kind"});
}

TEST(VerifyChecklist, AFileIsReadOnce) {
  class Counter final : public Progress {
   public:
    void Begin(std::string_view, uint64_t total, std::string_view) override { n_total = total; }
    void Advance(uint64_t n) override { n_done += n; }
    void End() override {}
    uint64_t n_total = 0, n_done = 0;
  } counter;
  const TempFolder folder;
  const std::string md5 = kMd5OfAbc, other(32, 'f');
  WriteFolder(folder, md5 + "  consolidated.00.pth\n" + md5 + "  consolidated.00.pth\n" + md5 +
                          "  ./consolidated.00.pth\n" + other + "  consolidated.00.pth\n");
  const auto findings = VerifyChecklist(folder.path(), &counter);
  EXPECT_EQ(counter.n_total, 3u);
  EXPECT_EQ(counter.n_done, 3u);
  ASSERT_EQ(IdsOf(findings), std::vector<std::string>{"checklist.contradiction"});
  EXPECT_EQ(findings[0].severity, Finding::Severity::kError);
  for (const std::string& word : {md5, other, std::string("'consolidated.00.pth'")}) {
    EXPECT_NE(findings[0].line.find(word), std::string::npos) << findings[0].line;
  }
}

TEST(VerifyChecklist, SaysThatThereIsNone) {
  const TempFolder folder;
  const auto findings = VerifyChecklist(folder.path());
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].id, "checklist.absent");
  EXPECT_EQ(findings[0].severity, Finding::Severity::kNote);
  NullLog log;
  testing::ExpectError(testing::Caught([&] { RequireChecklist(folder.path(), log); }),
                       ErrorCode::kData, "checklist.absent", {folder.path()});
}

}  // namespace
}  // namespace quern
