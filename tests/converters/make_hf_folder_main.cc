// quern_make_hf_folder CHECKPOINT TOKENIZER OUT [HEAD_DIM FACTOR]: writes a checkpoint, given in Meta's layout, into
// the folder OUT as Hugging Face's tools would: config.json, two shards of safetensors with their
// index, and the file TOKENIZER under its own name. TOKENIZER "json" is a tokenizer.json made of
// the checkpoint's vocabulary. With HEAD_DIM, heads are as wide as that, rows repeated or left out;
// positions are divided by FACTOR, unless it is 1.
#include <cstdio>
#include <cstring>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "converters/converters.h"
#include "formats/core/file.h"
#include "tests/converters/hf_writer.h"

namespace quern::testing {
namespace {

// Gives the heads of a matrix another size, by rows (q, k, v) or by columns (o): element i of a head
// is what element i modulo the old size was.
void ResizeHeads(SavedTensor& tensor, bool by_columns, uint64_t old_size, uint64_t new_size) {
  const uint64_t elem = tensor.bytes.size() / (tensor.shape[0] * tensor.shape[1]);
  const uint64_t inner = by_columns ? elem : tensor.shape[1] * elem;  // bytes of one element
  const uint64_t n_heads = tensor.bytes.size() / (old_size * inner);  // of all rows, if by columns
  std::vector<uint8_t> bytes(n_heads * new_size * inner);
  for (uint64_t head = 0; head < n_heads; ++head) {
    for (uint64_t i = 0; i < new_size; ++i) {
      std::memcpy(&bytes[(head * new_size + i) * inner],
                  &tensor.bytes[(head * old_size + i % old_size) * inner], inner);
    }
  }
  uint64_t& dim = tensor.shape[by_columns ? 1 : 0];
  dim = dim / old_size * new_size;
  tensor.bytes = std::move(bytes);
}

void MakeHfFolder(const std::string& checkpoint, const std::string& tokenizer,
                  const std::string& folder, uint64_t head_dim, const std::string& factor) {
  const auto model = OpenCheckpoint(checkpoint);
  std::vector<SavedTensor> tensors = HfTensorsOf(*model);
  std::string more;
  if (head_dim != 0) {
    more += ", \"head_dim\": " + std::to_string(head_dim);
    for (SavedTensor& tensor : tensors) {
      const bool is_output = tensor.name.ends_with("o_proj.weight");
      if (!is_output && tensor.name.find("self_attn.") == tensor.name.npos) continue;
      ResizeHeads(tensor, is_output, model->manifest().spec->head_dim, head_dim);
    }
  }
  if (factor != "1") more += ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": " + factor + "}";
  std::vector<FileBytes> files = SaveWeights(tensors, {.n_shards = 2});
  files.push_back(TextFileBytes("config.json", HfConfigOf(*model, more)));
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
  if (argc != 4 && argc != 6) return 2;
  try {
    quern::testing::MakeHfFolder(argv[1], argv[2], argv[3],
                                 argc == 6 ? std::strtoull(argv[4], nullptr, 10) : 0,
                                 argc == 6 ? argv[5] : "1");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "quern_make_hf_folder: %s\n", e.what());
    return 1;
  }
  return 0;
}
