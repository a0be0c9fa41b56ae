// quern_make_hf_folder CHECKPOINT TOKENIZER OUT: writes a checkpoint, given in Meta's layout, into
// the folder OUT as Hugging Face's tools would: config.json, two shards of safetensors with their
// index, and the file TOKENIZER under its own name. TOKENIZER "json" is a tokenizer.json made of
// the checkpoint's vocabulary.
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "converters/converters.h"
#include "formats/core/file.h"
#include "tests/converters/hf_writer.h"

namespace quern::testing {
namespace {

void MakeHfFolder(const std::string& checkpoint, const std::string& tokenizer,
                  const std::string& folder) {
  const auto model = OpenCheckpoint(checkpoint);
  std::vector<FileBytes> files = SaveWeights(HfTensorsOf(*model), {.n_shards = 2});
  files.push_back(TextFileBytes("config.json", HfConfigOf(*model)));
  if (tokenizer == "json") {
    files.push_back(TextFileBytes("tokenizer.json", TokenizerJsonOf(model->manifest().tokenizer)));
  } else {
    files.push_back(TextFileBytes(std::filesystem::path(tokenizer).filename().string(),
                                  ReadWholeFile(tokenizer, 1u << 26)));
  }
  WriteFiles(folder, files);
}

}  // namespace
}  // namespace quern::testing

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  try {
    quern::testing::MakeHfFolder(argv[1], argv[2], argv[3]);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "quern_make_hf_folder: %s\n", e.what());
    return 1;
  }
  return 0;
}
