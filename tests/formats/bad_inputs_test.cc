// The published list of malformed files (make_bad_inputs.py), where it is at hand: class, id and
// words of every zip, pickle, safetensors and JSON case. Our own list, which goes further, is in
// hostile_torch_test.cc. QUERN_SHOW_MESSAGES=1 prints every message.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "formats/core/file.h"
#include "formats/json_limits.h"
#include "formats/safetensors.h"
#include "formats/torch_checkpoint.h"

namespace quern {
namespace {

namespace fs = std::filesystem;

// Does with a file what `quern` would, and returns its error, if any.
std::optional<Error> TryFile(const std::string& path) {
  try {
    if (path.ends_with(".json")) {
      const std::string text = ReadWholeFile(path, uint64_t{1} << 30);
      const JsonValue json = ParseJson(text, path);
      OptionalUint(json, "num_attention_heads", 1'000'000, path);
      if (const auto map = json.Find("weight_map")) {
        for (const auto& [tensor, shard] : map->items()) CheckShardName(shard.String(), path);
      }
    } else if (path.ends_with(".safetensors")) {
      const InputFile file(path);
      SafetensorsFile::Open(file);
    } else {
      const InputFile file(path);
      TorchCheckpoint::Open(file).VerifyAllCrcs();
    }
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

TEST(BadInputsTest, EveryCaseGetsItsClassIdAndWords) {
  const char* assets = std::getenv("QUERN_ASSETS");
  const fs::path shared =
      assets != nullptr ? fs::path(assets).parent_path() : fs::path(QUERN_SOURCE_DIR) / "../shared";
  const fs::path script = shared / "bad-inputs/make_bad_inputs.py";
  if (!fs::exists(script)) GTEST_SKIP() << "no " << script;
  const fs::path folder = fs::path(::testing::TempDir()) / "quern-bad-inputs";
  const std::string command =
      "python3 '" + script.string() + "' '" + folder.string() + "' >/dev/null 2>&1";
  if (std::system(command.c_str()) != 0) GTEST_SKIP() << "python3 cannot run " << script;

  const std::string text = ReadWholeFile((folder / "manifest.json").string(), uint64_t{1} << 24);
  int n_cases = 0;
  for (const auto& item : ParseJson(text, "manifest.json").items()) {
    const JsonValue& entry = item.value;
    const std::string id(entry.Find("id")->String());
    if (id[0] != 'p' && id[0] != 'k' && id[0] != 'j' && id[0] != 's') continue;
    ++n_cases;
    const auto error = TryFile((folder / entry.Find("file")->String()).string());
    const std::string_view cls = entry.Find("cls")->String();
    const std::string found = !error                                     ? "OK"
                              : error->code() == ErrorCode::kData        ? "DATA"
                              : error->code() == ErrorCode::kUnsupported ? "UNSUP"
                                                                         : "?";
    EXPECT_EQ(found, cls) << id << ": " << (error ? error->what() : "no error");
    if (!error) continue;
    EXPECT_EQ(error->id(), entry.Find("code")->String()) << id << ": " << error->what();
    for (const auto& word : entry.Find("must")->items()) {
      EXPECT_NE(std::string_view(error->what()).find(word.value.String()), std::string_view::npos)
          << id << " lacks " << word.value.String() << ": " << error->what();
    }
    if (std::getenv("QUERN_SHOW_MESSAGES") != nullptr)
      printf("%s\n    %s\n", id.c_str(), error->what());
  }
  EXPECT_GT(n_cases, 55);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace quern
