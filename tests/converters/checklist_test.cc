#include "converters/checklist.h"

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
