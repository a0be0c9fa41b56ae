// Conversion of Hugging Face's layout from end to end in memory: the side files and the weights cut out
// of one input, to GGUF bytes. The oracle is that of convert_fuzz.
#include "converters/hf_checkpoint.h"
#include "tests/fuzz/convert_support.h"

namespace {

using namespace quern;

// The side files in this order, then the files of weights. An empty part is a file that is not there.
struct SideFile {
  const char* name;
  std::optional<TextFile> HfTokenizerFiles::*place;
};
constexpr SideFile kSide[] = {
    {"config.json", &HfTokenizerFiles::config},
    {"tokenizer.model", &HfTokenizerFiles::tokenizer_model},
    {"tokenizer.json", &HfTokenizerFiles::tokenizer_json},
    {"tokenizer_config.json", &HfTokenizerFiles::tokenizer_config},
    {"special_tokens_map.json", &HfTokenizerFiles::special_tokens_map},
    {"added_tokens.json", &HfTokenizerFiles::added_tokens},
    {"generation_config.json", &HfTokenizerFiles::generation_config},
};
constexpr size_t kSideFiles = std::size(kSide) + 1;  // and the index
constexpr size_t kMaxParts = kSideFiles + 3;

std::string TextOf(const fuzz::Bytes& bytes) { return {bytes.begin(), bytes.end()}; }

void Convert(const fuzz::Input& input) {
  HfFiles files;
  files.name = "input";
  for (size_t i = 0; i < std::size(kSide); ++i) {
    if (input.parts[i].empty()) continue;
    files.side_files.*kSide[i].place = TextFile{kSide[i].name, TextOf(input.parts[i])};
  }
  if (const auto& index = input.parts[std::size(kSide)]; !index.empty()) {
    files.index = TextFile{"model.safetensors.index.json", TextOf(index)};
  }
  for (size_t i = kSideFiles; i < input.parts.size(); ++i) {
    files.weights.push_back(std::make_shared<MemoryBytes>(
        input.parts[i], "w" + std::to_string(i - kSideFiles + 1) + ".safetensors"));
  }
  fuzz::RequireGguf(*OpenHfFiles(std::move(files), {}));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::Input input = fuzz::Split(data, size, kMaxParts);
  if (input.parts.size() >= kSideFiles) fuzz::RequireRefusalOrSuccess([&] { Convert(input); });
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  return fuzz::MutateOnePart(data, size, max_size, seed, kSideFiles, kMaxParts);
}
