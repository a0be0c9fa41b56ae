// Conversion of Meta's layout from end to end in memory: params.json, vocabulary and shards cut out of
// one input, to GGUF bytes. Whatever converts must be readable again, as the same manifest and the
// same rows, and merging must not depend on how many rows are asked for at once.
#include "converters/meta_checkpoint.h"
#include "tests/fuzz/convert_support.h"

namespace {

using namespace quern;

// params.json, tokenizer.model, then shards.
constexpr size_t kSideFiles = 2, kMaxParts = kSideFiles + 4;
constexpr uint8_t kVerifyCrc = 2;

void Convert(const fuzz::Input& input) {
  MetaFiles files;
  files.name = "input";
  files.params_file = "params.json";
  files.params_text = std::string(input.parts[0].begin(), input.parts[0].end());
  files.tokenizer_file = "tokenizer.model";
  files.tokenizer_bytes = std::string(input.parts[1].begin(), input.parts[1].end());
  for (size_t i = kSideFiles; i < input.parts.size(); ++i) {
    files.shards.push_back(
        std::make_shared<MemoryBytes>(input.parts[i], "shard " + std::to_string(i)));
  }
  CheckpointOptions options;
  options.verify_crc = (input.flags & kVerifyCrc) != 0;
  fuzz::RequireGguf(*OpenMetaFiles(std::move(files), options));
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
