#include "formats/core/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>

#include "formats/core/error.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "quern-file-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string Path(const std::string& name) const { return folder_ / name; }
  void Make(const std::string& name, const std::string& text) const {
    std::ofstream(Path(name)) << text;
  }
  size_t CountEntries() const {
    return static_cast<size_t>(
        std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  static std::string IdOf(const std::function<void()>& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.id();
    }
    return "";
  }
  fs::path folder_;
};

TEST_F(FileTest, ReadsAnywhereAndRefusesBeyondTheEnd) {
  Make("a", "0123456789");
  const InputFile file(Path("a"));
  EXPECT_EQ(AsText(file.ReadVector(3, 4)), "3456");
  EXPECT_EQ(IdOf([&] { file.ReadVector(8, 4); }), "input.truncated");
}

TEST_F(FileTest, RefusesWhatIsNoRegularFile) {
  EXPECT_EQ(IdOf([&] { InputFile{folder_.string()}; }), "file.kind");
  EXPECT_EQ(IdOf([&] { InputFile{Path("missing")}; }), "file.open");
  ASSERT_EQ(mkfifo(Path("fifo").c_str(), 0600), 0);
  EXPECT_EQ(IdOf([&] { InputFile{Path("fifo")}; }), "file.kind");
}

TEST_F(FileTest, OutputAppearsOnlyOnCommit) {
  {
    const auto output = OpenOutput(Path("out"), {});
    output->Write(AsBytes("abc"));
    EXPECT_EQ(CountEntries(), 0u);
  }
  EXPECT_EQ(CountEntries(), 0u);
  const auto output = OpenOutput(Path("out"), {});
  output->Write(AsBytes("abc"));
  output->Commit();
  EXPECT_EQ(CountEntries(), 1u);
  EXPECT_EQ(ReadWholeFile(Path("out"), 100), "abc");
}

TEST_F(FileTest, ReplacesOnlyWithForce) {
  Make("out", "old");
  EXPECT_EQ(IdOf([&] { OpenOutput(Path("out"), {}); }), "output.exists");
  const auto output = OpenOutput(Path("out"), {.force = true, .inputs = {}});
  output->Write(AsBytes("new"));
  EXPECT_EQ(ReadWholeFile(Path("out"), 100), "old");
  output->Commit();
  EXPECT_EQ(ReadWholeFile(Path("out"), 100), "new");
  EXPECT_EQ(CountEntries(), 1u);
}

TEST_F(FileTest, AFileThatAppearsMeanwhileIsKept) {
  const auto output = OpenOutput(Path("out"), {});
  output->Write(AsBytes("new"));
  Make("out", "other");
  EXPECT_EQ(IdOf([&] { output->Commit(); }), "output.exists");
  EXPECT_EQ(ReadWholeFile(Path("out"), 100), "other");
}

TEST_F(FileTest, OutputMustNotBeAnInput) {
  Make("in", "x");
  ASSERT_EQ(link(Path("in").c_str(), Path("hard").c_str()), 0);
  fs::create_symlink("in", Path("soft"));
  const OutputOptions options{.force = true, .inputs = {*FileIdOf(Path("in"))}};
  for (const auto* name : {"in", "hard", "soft"}) {
    EXPECT_EQ(IdOf([&] { OpenOutput(Path(name), options); }), "output.is-input") << name;
  }
}

TEST_F(FileTest, WritesThroughASymbolicLink) {
  fs::create_directory(Path("real"));
  fs::create_symlink("real/target", Path("soft"));
  const auto output = OpenOutput(Path("soft"), {});
  output->Write(AsBytes("x"));
  output->Commit();
  EXPECT_TRUE(fs::is_symlink(Path("soft")));
  EXPECT_EQ(ReadWholeFile(Path("real/target"), 10), "x");
}

TEST_F(FileTest, RefusesDirectoriesAndMissingFolders) {
  EXPECT_EQ(IdOf([&] { OpenOutput(folder_, {.force = true, .inputs = {}}); }), "output.directory");
  EXPECT_EQ(IdOf([&] { OpenOutput(Path("no/such"), {}); }), "output.open");
}

TEST_F(FileTest, SaysHowMuchSpaceIsMissing) {
  EXPECT_EQ(
      IdOf([&] { OpenOutput(Path("out"), {.inputs = {}, .expected_bytes = uint64_t{1} << 60}); }),
      "output.space");
}

TEST_F(FileTest, FullDeviceIsAnErrorThatNamesIt) {
  const auto output = OpenOutput("/dev/full", {});
  try {
    output->Write(AsBytes("x"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "output.write");
    EXPECT_EQ(error.file(), "/dev/full");
  }
}

TEST_F(FileTest, AKilledWriterLeavesNothing) {
  const pid_t child = fork();
  if (child == 0) {
    const auto output = OpenOutput(Path("out"), {});
    output->Write(AsBytes("abc"));
    raise(SIGKILL);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(CountEntries(), 0u);
}

TEST_F(FileTest, ALaterRunRemovesLeftoversButNotLiveOnes) {
  Make(".out.quern-tmp-1-0", "dead");
  Make(".out.quern-tmp-2-0", "alive");
  const int held = open(Path(".out.quern-tmp-2-0").c_str(), O_RDONLY);
  ASSERT_EQ(flock(held, LOCK_EX), 0);
  OpenOutput(Path("out"), {});
  EXPECT_FALSE(fs::exists(Path(".out.quern-tmp-1-0")));
  EXPECT_TRUE(fs::exists(Path(".out.quern-tmp-2-0")));
  close(held);
}

}  // namespace
}  // namespace quern
