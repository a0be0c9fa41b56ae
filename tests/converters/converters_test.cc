#include "converters/converters.h"

#include <filesystem>
#include <fstream>
#include <set>

#include "tests/converters/test_support.h"

namespace quern {
namespace {

using testing::Caught;
using testing::ExpectError;
using testing::TempFolder;

TEST(Converters, HaveNamesAndFunctions) {
  std::set<std::string_view> names;
  for (const ConverterInfo* converter : AllConverters()) {
    EXPECT_TRUE(names.insert(converter->name).second);
    EXPECT_FALSE(converter->description.empty());
    ASSERT_TRUE(converter->recognizes && converter->open && converter->input_files);
    EXPECT_FALSE(converter->recognizes(QUERN_TEST_DATA));  // a folder of other things
  }
}

TEST(Converters, OpenGgufWithReplacements) {
  const std::string file = std::string(QUERN_TEST_DATA) + "/stories260K/stories260K-f32.gguf";
  CheckpointOptions options;
  options.name = "another";
  options.context_length = 99;
  const auto plain = OpenCheckpoint(file), renamed = OpenCheckpoint(file, options);
  Manifest want = plain->manifest();
  want.name = "another";
  want.spec->context_length = 99;
  want.provenance.context_length_source = "";
  EXPECT_EQ(renamed->manifest(), want);
  EXPECT_EQ(renamed->name(), plain->name());
  EXPECT_TRUE(testing::ReadAll(*renamed, 1, 5) == testing::ReadAll(*plain, 1, 5));
  EXPECT_EQ(InputFilesOf(file), std::vector<std::string>{file});
  EXPECT_TRUE(CheckCheckpoint(file).empty());
}

TEST(Converters, NameWhatTheyDoNotRead) {
  struct Case {
    const char* file;
    const char* word;
  };
  for (const Case& c : {Case{"adapter_config.json", "LoRA"},
                        Case{"consolidated.safetensors", "Mistral"},
                        Case{".metadata", "torch.distributed"}}) {
    const TempFolder folder;
    std::ofstream(folder / c.file) << "{}";
    ExpectError(Caught([&] { OpenCheckpoint(folder.path()); }), ErrorCode::kUnsupported,
                "checkpoint.layout", {folder.path(), c.file, c.word, "Meta's or Hugging Face's layout"});
    EXPECT_TRUE(InputFilesOf(folder.path()).empty());
    const auto findings = CheckCheckpoint(folder.path());
    ASSERT_EQ(findings.size(), 1u);
    EXPECT_EQ(findings[0].id, "checkpoint.layout");
  }
}

TEST(Converters, PointToTheMetaFolderInside) {
  const TempFolder folder;
  testing::WriteFiles(folder / "original", testing::MakeCheckpoint({}));
  ExpectError(Caught([&] { OpenCheckpoint(folder.path()); }), ErrorCode::kData,
              "input.unknown-format", {"did you mean", "original"});
  EXPECT_EQ(OpenCheckpoint(folder / "original")->manifest().spec->d_model, 64u);
}

TEST(Converters, RefuseNothingAndOtherThings) {
  const TempFolder folder;
  ExpectError(Caught([&] { OpenCheckpoint(folder / "gone"); }), ErrorCode::kSystem, "file.open",
              {"gone"});
  EXPECT_THROW(CheckCheckpoint(folder / "gone"), Error);
  ExpectError(Caught([&] { OpenCheckpoint(folder.path()); }), ErrorCode::kData,
              "input.unknown-format", {folder.path(), "params.json"});
  std::ofstream(folder / "page.bin") << "<!DOCTYPE html><html>not found</html>";
  ExpectError(Caught([&] { OpenCheckpoint(folder / "page.bin"); }), ErrorCode::kData, "input.html",
              {"page.bin"});
  EXPECT_EQ(InputFilesOf(folder / "page.bin").size(), 1u);
}

TEST(Converters, OneConfigurationIsCheckedAsInItsFolder) {
  for (const char* text : {
           R"({"num_attention_heads": -8})",
           R"({"model_type": "llama", "num_attention_heads": 0})",
           R"({"model_type": "llama", "rms_norm_eps": -1})",
           R"({"model_type": "llama", "hidden_size": 64, "rope_theta": "x"})",
           R"({"weight_map": []})",
           R"({"weight_map": null})",
           R"({"dim": 64, "n_layers": 2, "n_heads": 7})",
           R"({"dim": 64, "n_layers": 1000000000, "n_heads": 8})",
           R"({"dim": 64, "n_layers": 2, "n_heads": 8, "norm_eps": "1e-5"})",
           R"({"eos_token_id": "x"})",
       }) {
    SCOPED_TRACE(text);
    ExpectError(Caught([&] { CheckConfigFile(text, "x.json"); }), ErrorCode::kData, "config.value",
                {"x.json"});
  }
  for (const char* text :
       {"{}", "[]", R"({"num_attention_heads": 8})", R"({"dim": 3.5})", R"({"eos_token_id": [1, 2]})",
        R"({"dim": 64, "n_layers": 2, "n_heads": 8})"}) {
    EXPECT_NO_THROW(CheckConfigFile(text, "x.json")) << text;
  }
}

TEST(Converters, OptionsCountForStreamsToo) {
  const std::string file = std::string(QUERN_TEST_DATA) + "/stories260K/stories260K-f32.gguf";
  CheckpointOptions options;
  options.name = "another";
  options.context_length = 99;
  const auto expected = OpenCheckpoint(file, options);
  const auto plain = OpenCheckpoint(file);  // a walk may refer to its store
  EXPECT_EQ(WithOptions(plain->Walk(), {})->manifest(), plain->manifest());
  EXPECT_EQ(WithOptions(plain->Walk(), options)->manifest(), expected->manifest());
  options.name = "\xff";
  ExpectError(Caught([&] { WithOptions(plain->Walk(), options); }), ErrorCode::kUsage, "usage.name",
              {"\\xff"});
}

}  // namespace
}  // namespace quern
