// The published list of malformed files (make_bad_inputs.py), where it is at hand: class, id and
// words of every GGUF and SentencePiece case. Our own list, which goes further, is in
// gguf_reader_test.cc and sentencepiece_model_test.cc.
//
// Where quern differs from the list on purpose: version 1 is read (real files of it exist); the
// list's version 1 case has the layout of version 3 and is refused as the list asks.
#include <filesystem>

#include "formats/formats.h"
#include "formats/json_limits.h"
#include "formats/model_file.h"
#include "formats/sentencepiece_model.h"
#include "tests/formats/testing.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

// Does with a file what `quern inspect` would, and returns its error, if any.
std::optional<Error> TryFile(const std::string& path) {
  return testing::ErrorOf([&] {
    if (DetectKind(path) == FileKind::kSentencePiece) {
      const std::string bytes = ReadWholeFile(path, uint64_t{1} << 30);
      ParseSentencePieceModel(AsBytes(bytes), path);
    } else {
      OpenModelFile(path);
    }
  });
}

std::string ClassOf(const std::optional<Error>& error) {
  if (!error) return "OK";
  return error->code() == ErrorCode::kData          ? "DATA"
         : error->code() == ErrorCode::kUnsupported ? "UNSUP"
                                                    : "?";
}

TEST(GgufBadInputs, EveryCaseGetsItsClassIdAndWords) {
  const fs::path script =
      fs::path(testing::AssetsFolder()).parent_path() / "bad-inputs/make_bad_inputs.py";
  if (!fs::exists(script)) GTEST_SKIP() << "no " << script;
  const fs::path folder =
      fs::path(::testing::TempDir()) / ("quern-gguf-bad-inputs-" + std::to_string(getpid()));
  const std::string command =
      "python3 '" + script.string() + "' '" + folder.string() + "' >/dev/null 2>&1";
  if (std::system(command.c_str()) != 0) GTEST_SKIP() << "python3 cannot run " << script;
  const std::string text = ReadWholeFile((folder / "manifest.json").string(), uint64_t{1} << 24);
  int n_cases = 0;
  for (const auto& item : ParseJson(text, "manifest.json").items()) {
    const JsonValue& entry = item.value;
    const std::string id(entry.Find("id")->String());
    const bool is_foreign = id.starts_with("p35") || id.starts_with("p37");
    if (id[0] != 'g' && id[0] != 'm' && !is_foreign) continue;
    ++n_cases;
    const auto error = TryFile((folder / entry.Find("file")->String()).string());
    const std::string_view code = entry.Find("code")->String();
    if (code.starts_with("quant.")) {  // decided when the weights are read
      EXPECT_FALSE(error.has_value()) << id << ": " << error->what();
      continue;
    }
    EXPECT_EQ(ClassOf(error), entry.Find("cls")->String())
        << id << ": " << (error ? error->what() : "no error");
    if (!error) continue;
    EXPECT_EQ(error->id(), code) << id << ": " << error->what();
    for (const auto& word : entry.Find("must")->items()) {
      EXPECT_NE(std::string_view(error->what()).find(word.value.String()), std::string_view::npos)
          << id << " lacks " << word.value.String() << ": " << error->what();
    }
    if (std::getenv("QUERN_SHOW_MESSAGES") != nullptr)
      printf("%s\n    %s\n", id.c_str(), error->what());
  }
  EXPECT_GE(n_cases, 40);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace quern
