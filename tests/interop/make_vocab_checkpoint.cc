// make_vocab_checkpoint TOKENIZER.model VOCAB_SIZE FOLDER: writes a checkpoint in Meta's layout
// around a real tokenizer: one layer, all weights zero, as small as its vocabulary permits.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/converters/torch_writer.h"

namespace {

using quern::testing::WrittenStorage;
using quern::testing::WrittenTensor;

constexpr uint64_t kDim = 64;
constexpr uint64_t kFeedForward = 192;  // by Meta's rule for dim 64, multiple_of 32

void WriteFile(const std::filesystem::path& path, const void* data, size_t n_bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(static_cast<const char*>(data), static_cast<std::streamsize>(n_bytes));
  if (!out.flush()) throw std::runtime_error("cannot write " + path.string());
}

void MakeCheckpoint(const std::string& tokenizer, uint64_t vocab_size,
                    const std::filesystem::path& folder) {
  std::vector<WrittenTensor> tensors;
  uint64_t n_elems = 0;
  const auto add = [&](const std::string& name, uint64_t rows, uint64_t cols) {
    const bool is_vector = rows == 1;
    tensors.push_back(
        {.name = name,
         .offset_elems = n_elems,
         .shape = is_vector ? std::vector<uint64_t>{cols} : std::vector<uint64_t>{rows, cols},
         .strides = is_vector ? std::vector<uint64_t>{1} : std::vector<uint64_t>{cols, 1}});
    n_elems += rows * cols;
  };
  add("tok_embeddings.weight", vocab_size, kDim);
  for (const char* name : {"wq", "wk", "wv", "wo"}) {
    add(std::string("layers.0.attention.") + name + ".weight", kDim, kDim);
  }
  add("layers.0.feed_forward.w1.weight", kFeedForward, kDim);
  add("layers.0.feed_forward.w2.weight", kDim, kFeedForward);
  add("layers.0.feed_forward.w3.weight", kFeedForward, kDim);
  add("layers.0.attention_norm.weight", 1, kDim);
  add("layers.0.ffn_norm.weight", 1, kDim);
  add("norm.weight", 1, kDim);
  add("output.weight", vocab_size, kDim);

  const WrittenStorage storage{
      .torch_class = "HalfStorage", .elem_bytes = 2, .bytes = std::vector<uint8_t>(n_elems * 2)};
  const std::vector<uint8_t> shard = quern::testing::WriteTorchFile({storage}, tensors);
  const std::string params =
      R"({"dim": 64, "multiple_of": 32, "n_heads": 2, "n_layers": 1, "norm_eps": 1e-05, "vocab_size": -1})";
  std::filesystem::create_directories(folder);
  WriteFile(folder / "consolidated.00.pth", shard.data(), shard.size());
  WriteFile(folder / "params.json", params.data(), params.size());
  std::filesystem::copy_file(tokenizer, folder / "tokenizer.model",
                             std::filesystem::copy_options::overwrite_existing);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  try {
    MakeCheckpoint(argv[1], std::stoull(argv[2]), argv[3]);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "make_vocab_checkpoint: %s\n", e.what());
    return 1;
  }
  return 0;
}
