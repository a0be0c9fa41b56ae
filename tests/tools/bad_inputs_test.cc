// The sample of malformed files (make_bad_inputs.py, where it is at hand) through the program
// itself: exit class, stable id, words of the message, peak memory, CPU time.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "formats/gguf_writer.h"
#include "tests/tools/run_quern.h"

namespace quern {
namespace {

namespace fs = std::filesystem;
using testing::ExpectWithinBounds;
using testing::RunQuern;
using testing::RunResult;

fs::path GeneratorPath() {
  const char* assets = std::getenv("QUERN_ASSETS");
  const fs::path root =
      assets != nullptr ? fs::path(assets) / ".." : fs::path(QUERN_SOURCE_DIR) / "../shared";
  return root / "bad-inputs/make_bad_inputs.py";
}

// Kinds of files this version reads, by the first letter of their cases' ids.
constexpr std::string_view kKindsRead = "gpkmsji";

class BadInputs : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(GeneratorPath())) GTEST_SKIP() << "no " << GeneratorPath();
    std::string pattern = (fs::temp_directory_path() / "quern-bad-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    const std::string command = "python3 '" + GeneratorPath().string() + "' '" +
                                (folder_ / "in").string() + "' > '" + (folder_ / "log").string() +
                                "' 2>&1";
    if (std::system(command.c_str()) != 0) GTEST_SKIP() << "python3 does not run the generator";
  }
  void TearDown() override {
    if (!folder_.empty()) fs::remove_all(folder_);
  }
  fs::path folder_;
};

const std::map<std::string, int> kExitCodes = {
    {"OK", 0}, {"DATA", 3}, {"UNSUP", 4}, {"NOINPUT", 5}};

// Expects the class, the stable id and the words that the manifest lists for a case.
void ExpectAsListed(const nlohmann::json& entry, const RunResult& result) {
  EXPECT_EQ(result.exit_code, kExitCodes.at(entry["cls"])) << result.err;
  if (entry["cls"] == "OK") return;
  const std::string code = entry["code"];
  EXPECT_NE(result.err.find("[" + code + "]"), std::string::npos) << code << "\n" << result.err;
  for (const std::string word : entry["must"]) {
    EXPECT_NE(result.err.find(word), std::string::npos) << word << "\n" << result.err;
  }
}

TEST_F(BadInputs, EachGetsItsClassIdAndWordsInBoundedMemory) {
  const auto cases = nlohmann::json::parse(std::ifstream(folder_ / "in/manifest.json"));
  size_t n_run = 0;
  for (const auto& entry : cases) {
    const std::string id = entry["id"];
    if (kKindsRead.find(id[0]) == std::string_view::npos) continue;
    SCOPED_TRACE(id + ": " + entry["why"].get<std::string>());
    const fs::path input = folder_ / "in" / entry["file"].get<std::string>();
    const std::string code = entry["code"];
    // A width is right or wrong for a model only; see below.
    if (code == "imatrix.width") continue;
    // Values and sums are seen where weights are read.
    const bool through_quantize = code.starts_with("quant.") || code == "zip.crc";
    const RunResult result =
        through_quantize
            ? RunQuern({"quantize", input, "-t", "q8_0", "-o", "/dev/null"}, folder_ / "err")
            : RunQuern({"inspect", input}, folder_ / "err");
    ++n_run;
    ExpectWithinBounds(result, fs::file_size(input));
    ExpectAsListed(entry, result);
  }
  EXPECT_GT(n_run, 60u);
}

// The model of the importance matrices: one tensor of four rows of `cols` weights.
void WriteModel(const fs::path& path, uint64_t cols) {
  Manifest manifest;
  manifest.metadata = {{"general.architecture", MetadataValue::Text("llama")}};
  manifest.tensors = {{"blk.0.ffn_up.weight", TensorRole::kFfnUp, 0, DType::kF32, {4, cols}}};
  std::vector<uint8_t> bytes = EncodeGgufHeader(manifest);
  bytes.resize(bytes.size() + 4 * cols * sizeof(float), 0x3C);
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

TEST_F(BadInputs, ImportanceMatricesAreDecidedByQuantize) {
  const fs::path model = folder_ / "model.gguf";
  WriteModel(model, 8);
  const auto cases = nlohmann::json::parse(std::ifstream(folder_ / "in/manifest.json"));
  size_t n_run = 0;
  for (const auto& entry : cases) {
    const std::string id = entry["id"];
    if (id[0] != 'i') continue;
    SCOPED_TRACE(id + ": " + entry["why"].get<std::string>());
    const fs::path imatrix = folder_ / "in" / entry["file"].get<std::string>();
    for (const char* type : {"q8_0", "f16"}) {
      const RunResult result =
          RunQuern({"quantize", model, "--imatrix", imatrix, "-t", type, "-o", "/dev/null"},
                   folder_ / "err");
      ExpectAsListed(entry, result);
      if (entry["cls"] != "OK") {
        EXPECT_NE(result.err.find(imatrix.string()), std::string::npos) << result.err;
      }
      ExpectWithinBounds(result, 0);
    }
    ++n_run;
  }
  EXPECT_GE(n_run, 7u);
}

}  // namespace
}  // namespace quern
