#include "formats/formats.h"

#include <fstream>

#include "formats/model_file.h"
#include "tests/formats/gguf_builder.h"
#include "tests/formats/sentencepiece_builder.h"
#include "tests/formats/testing.h"

namespace quern {
namespace {

using testing::ExpectError;

// A file that is removed with the object.
class ScratchFile {
 public:
  ScratchFile(const std::string& name, std::string_view bytes)
      : path_(::testing::TempDir() + "quern-" + std::to_string(getpid()) + "-" + name) {
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  ~ScratchFile() { unlink(path_.c_str()); }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(DetectKind, KnowsFilesByTheirFirstBytes) {
  using enum FileKind;
  const auto Kind = [](std::string_view bytes) {
    return DetectKind(AsBytes(bytes), "name-that-says-nothing");
  };
  EXPECT_EQ(Kind("GGUF\3"), kGguf);
  EXPECT_EQ(Kind("PK\3\4xx"), kTorchZip);
  EXPECT_EQ(Kind("PK\5\6xx"), kTorchZip);
  EXPECT_EQ(Kind("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."), kTorchLegacy);
  EXPECT_EQ(Kind(std::string(257, '\0') + "ustar"), kTar);
  EXPECT_EQ(Kind(std::string_view("\x10\0\0\0\0\0\0\0{\"a\":", 13)), kSafetensors);
  EXPECT_EQ(Kind(testing::FivePieces()), kSentencePiece);
  EXPECT_EQ(Kind("IQ== 0\nIg== 1\n"), kTiktoken);
  EXPECT_EQ(Kind("{\"dim\": 64}"), kJson);
  EXPECT_EQ(Kind("  \n[1]"), kJson);
  EXPECT_EQ(Kind(std::string_view("\1\0\0\0\x10\0\0\0blk.0.xy.weight\0\0", 26)),
            kUnknown);  // a NUL in the name
  EXPECT_EQ(Kind(std::string_view("\1\0\0\0\x10\0\0\0blk.0.xyz.weight", 24)), kImatrix);
  // Counts of entries that begin like other kinds: '[', '{', PyTorch's pickles, gzip.
  for (const uint32_t n_entries : {91u, 123u, 640u, 35615u}) {
    uint8_t head[24] = {0, 0, 0, 0, 16};
    StoreLE(head, n_entries);
    std::memcpy(head + 8, "blk.0.xyz.weight", 16);
    EXPECT_EQ(Kind(AsText(head)), kImatrix) << n_entries;
    EXPECT_NE(Kind(AsText(ByteView(head).first(23))), kImatrix) << "name cut short";
  }
  EXPECT_EQ(Kind("version https://git-lfs.github.com/spec/v1\noid sha256:00"), kGitLfsPointer);
  EXPECT_EQ(Kind("\n<!DOCTYPE html>\n<html>"), kHtml);
  EXPECT_EQ(Kind("<html lang=en>"), kHtml);
  EXPECT_EQ(Kind("\xEF\xBB\xBF<!DOCTYPE HTML>"), kHtml);
  EXPECT_EQ(Kind("<!-- saved from url -->\n<!-- and so on --> <html>"), kHtml);
  EXPECT_EQ(Kind("<!-- a comment without end"), kHtml);
  EXPECT_EQ(Kind("<?xml version=\"1.0\"?>\n<!DOCTYPE html PUBLIC>"), kHtml);
  EXPECT_EQ(Kind("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code>"), kHtml);
  EXPECT_EQ(Kind("<?xml version=\"1.0\"?><net name=\"model\">"), kUnknown);
  for (const std::string_view old : {"lmgg", "fmgg", "tjgg", "algg"})
    EXPECT_EQ(Kind(old), kOldGgml);
  EXPECT_EQ(Kind("7z\xbc\xaf\x27\x1c"), kForeign);
  EXPECT_EQ(Kind("\x1f\x8b\x08"), kForeign);
  EXPECT_EQ(Kind("_logits_\1"), kLogits);
  EXPECT_EQ(Kind("FUGG"), kUnknown);
  EXPECT_EQ(Kind(""), kUnknown);
}

TEST(DetectKind, TheExtensionDecidesOnlyWhatBytesLeaveOpen) {
  using enum FileKind;
  EXPECT_EQ(DetectKind({}, "a.gguf"), kGguf);
  EXPECT_EQ(DetectKind({}, "a.PTH"), kTorchZip);
  EXPECT_EQ(DetectKind({}, "a.safetensors"), kSafetensors);
  EXPECT_EQ(DetectKind({}, "tokenizer.model"), kSentencePiece);
  EXPECT_EQ(DetectKind(AsBytes("\x0b\x0b"), "tokenizer.model"), kSentencePiece);
  EXPECT_EQ(DetectKind(AsBytes("\xff\xff\xff\xff"), "imatrix.dat"), kImatrix);
  EXPECT_EQ(DetectKind(AsBytes("FUGG"), "a.gguf"), kUnknown);
  EXPECT_EQ(DetectKind(AsBytes("GGUF"), "a.pth"), kGguf);
  EXPECT_EQ(DetectKind(AsBytes("IQ== 0\n"), "tokenizer.model"), kTiktoken);
}

TEST(DetectKind, LooksAtPaths) {
  EXPECT_EQ(DetectKind(QUERN_TEST_DATA), FileKind::kDirectory);
  EXPECT_EQ(DetectKind(QUERN_TEST_DATA "/stories260K/stories260K-f32.gguf"), FileKind::kGguf);
  EXPECT_EQ(DetectKind(QUERN_TEST_DATA "/fixture/meta-2/consolidated.00.pth"), FileKind::kTorchZip);
  EXPECT_EQ(DetectKind(QUERN_TEST_DATA "/fixture/meta-2/tokenizer.model"),
            FileKind::kSentencePiece);
  EXPECT_EQ(DetectKind(QUERN_TEST_DATA "/fixture/meta-2/params.json"), FileKind::kJson);
  ExpectError([] { DetectKind(std::string("/nonexistent/file")); }, ErrorCode::kSystem,
              "file.open");
}

TEST(OpenModelFile, SaysWhatAFileIsInstead) {
  using enum ErrorCode;
  const auto Refuse = [](const std::string& name, std::string_view bytes, ErrorCode code,
                         std::string_view id, const std::vector<std::string>& words) {
    const ScratchFile file(name, bytes);
    ExpectError([&] { OpenModelFile(file.path()); }, code, id, words);
    const auto error = testing::ErrorOf([&] { OpenModelFile(file.path()); });
    EXPECT_FALSE(error->hint().empty()) << name;
  };
  Refuse("lfs.gguf", "version https://git-lfs.github.com/spec/v1\n", kData, "input.lfs-pointer",
         {"Git LFS"});
  Refuse("html.gguf", "<!doctype html>", kData, "input.html", {"HTML"});
  Refuse("s3.gguf", "<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code></Error>", kData,
         "input.html", {"'AccessDenied'"});
  Refuse("old.bin", "tjgg\3\0\0\0", kUnsupported, "input.unknown-format", {"ggjt"});
  Refuse("x.7z", "7z\xbc\xaf\x27\x1c", kUnsupported, "input.unknown-format", {"7z"});
  Refuse("bad.gguf", "FUGGxxxxxxxxxx", kData, "input.unknown-format", {"FUGG"});
  Refuse("x.pth", "PK\3\4", kUnsupported, "input.kind", {"PyTorch"});
  Refuse("empty", "", kData, "input.empty", {"0 bytes"});
  Refuse("empty.gguf", "", kData, "gguf.truncated", {"0 bytes"});
  ExpectError([] { OpenModelFile(QUERN_TEST_DATA); }, kUnsupported, "input.kind", {"folder"});
}

TEST(OpenModelFile, OpensGguf) {
  const auto store = OpenModelFile(QUERN_TEST_DATA "/stories260K/stories260K-f32.gguf");
  EXPECT_EQ(store->manifest().spec->n_layers, 5U);
  EXPECT_EQ(store->name(), QUERN_TEST_DATA "/stories260K/stories260K-f32.gguf");
}

TEST(CheckModelFile, FindsWhatDoesNotBelongThere) {
  const std::string path = QUERN_TEST_DATA "/stories260K/stories260K-f32.gguf";
  EXPECT_TRUE(CheckModelFile(path, true).empty());
  const std::string bytes = ReadWholeFile(path, 1 << 22);
  const ScratchFile longer("longer.gguf", bytes + "x");
  const auto findings = CheckModelFile(longer.path(), true);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].id, "gguf.trailing-data");
  EXPECT_NE(findings[0].line.find(longer.path()), std::string::npos);
  ExpectError([] { CheckModelFile(QUERN_TEST_DATA, true); }, ErrorCode::kUnsupported, "input.kind");
}

TEST(ReadModelStream, ReadsGgufAndRefusesTheRest) {
  const auto bytes = testing::SmallLlama().Build();
  const auto source = ReadModelStream(std::make_unique<testing::MemoryStream>(bytes));
  EXPECT_EQ(source->manifest().name, "tiny");
  const GgufFile file(testing::InMemory(bytes));
  EXPECT_EQ(testing::WriteGguf(*source), testing::WriteGguf(file));
  const auto Read = [](std::string_view text) {
    ReadModelStream(std::make_unique<testing::MemoryStream>(AsBytes(text)));
  };
  ExpectError([&] { Read(""); }, ErrorCode::kData, "gguf.truncated", {"0 bytes"});
  ExpectError([&] { Read("no model at all"); }, ErrorCode::kData, "input.unknown-format",
              {"no model"});
  ExpectError([&] { Read("<html>"); }, ErrorCode::kData, "input.html");
}

// Every container of the table: what it writes it reads, from a file and from a pipe.
TEST(Containers, RoundTrip) {
  const auto bytes = testing::SmallLlama().Build();
  const GgufFile model(testing::InMemory(bytes));
  ASSERT_FALSE(AllContainers().empty());
  for (const Container& container : AllContainers()) {
    SCOPED_TRACE(std::string(container.name));
    EXPECT_EQ(FindContainer(container.kind), &container);
    EXPECT_EQ(FindContainer(container.name), &container);
    const auto Write = [&](TensorSource& source) {
      std::vector<uint8_t> out, buffer(1 << 16);
      const auto sink = container.make_writer(std::make_unique<testing::VectorOutput>(out), {});
      sink->Begin(source.manifest());
      while (const auto band = source.Next(buffer)) sink->Put(*band);
      sink->Finish();
      return out;
    };
    StoreWalk walk(model);
    const auto written = Write(walk);
    EXPECT_EQ(DetectKind(written, ""), container.kind);
    EXPECT_TRUE(container.check(testing::InMemory(written), true, nullptr).empty());
    const auto store = container.open(testing::InMemory(written));
    EXPECT_EQ(store->manifest(), model.manifest());
    StoreWalk again(*store);
    EXPECT_EQ(Write(again), written);
    EXPECT_EQ(Write(*container.read_stream(std::make_unique<testing::MemoryStream>(written))),
              written);
    for (size_t i = 0; i < store->manifest().tensors.size(); ++i) {
      EXPECT_EQ(testing::TensorBytes(*store, i), testing::TensorBytes(model, i));
    }
  }
  EXPECT_EQ(FindContainer("no such container"), nullptr);
  EXPECT_EQ(FindContainer(FileKind::kHtml), nullptr);
}

}  // namespace
}  // namespace quern
