// make_sparse_gguf OUT MODEL [IMATRIX]: an f16 GGUF file of a Llama's real shapes whose weights are
// a hole of zeros, so that plans for full-size models can be compared without the weights. IMATRIX
// becomes an importance matrix (llama.cpp's legacy format) of ones for all its layers.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "formats/core/bytes.h"
#include "formats/gguf_metadata.h"
#include "formats/gguf_writer.h"

namespace quern {
namespace {

struct Llama {
  std::string_view name;
  uint32_t n_layers, d_model, d_ff, n_heads, n_kv_heads, vocab_size;
  bool tied;
};
constexpr Llama kModels[] = {
    {"7b", 32, 4096, 11008, 32, 32, 32000, false},
    {"13b", 40, 5120, 13824, 40, 40, 32000, false},
    {"70b", 80, 8192, 28672, 64, 8, 32000, false},
    {"8b", 32, 4096, 14336, 32, 8, 128256, false},
    {"1b-tied", 16, 2048, 8192, 32, 8, 128256, true},
    // Rows that divide into blocks of 32, not of 256.
    {"288", 6, 288, 768, 6, 6, 32000, true},
};

Manifest ManifestOf(const Llama& model) {
  Manifest manifest;
  ModelSpec spec;
  spec.arch = "llama";
  spec.n_layers = model.n_layers;
  spec.n_heads = model.n_heads;
  spec.n_kv_heads = model.n_kv_heads;
  spec.head_dim = model.d_model / model.n_heads;
  spec.d_model = model.d_model;
  spec.d_ff = model.d_ff;
  spec.vocab_size = model.vocab_size;
  spec.context_length = 4096;
  spec.norm_eps = 1e-5f;
  spec.rope_theta = 10000;
  spec.tied_embeddings = model.tied;
  manifest.spec = spec;
  manifest.file_type = 1;
  const uint64_t d = model.d_model, kv = uint64_t{spec.head_dim} * model.n_kv_heads;
  const auto add = [&](TensorRole role, std::optional<uint32_t> layer, Shape shape) {
    const DType type = shape.rank() == 1 ? DType::kF32 : DType::kF16;
    manifest.tensors.push_back({TensorName(role, layer), role, layer, type, shape});
  };
  add(TensorRole::kTokenEmbedding, {}, {model.vocab_size, d});
  for (uint32_t layer = 0; layer < model.n_layers; ++layer) {
    add(TensorRole::kAttnNorm, layer, {d});
    add(TensorRole::kAttnQ, layer, {d, d});
    add(TensorRole::kAttnK, layer, {kv, d});
    add(TensorRole::kAttnV, layer, {kv, d});
    add(TensorRole::kAttnOutput, layer, {d, d});
    add(TensorRole::kFfnNorm, layer, {d});
    add(TensorRole::kFfnGate, layer, {model.d_ff, d});
    add(TensorRole::kFfnUp, layer, {model.d_ff, d});
    add(TensorRole::kFfnDown, layer, {d, model.d_ff});
  }
  add(TensorRole::kOutputNorm, {}, {d});
  if (!model.tied) add(TensorRole::kOutput, {}, {model.vocab_size, d});
  return manifest;
}

void Write(const std::string& path, const std::vector<uint8_t>& bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
  out.close();
  if (!out) throw std::runtime_error(path + ": cannot be written");
}

std::vector<uint8_t> ImatrixOf(const Manifest& manifest) {
  std::vector<uint8_t> out;
  const auto put = [&out](auto value) {
    out.resize(out.size() + sizeof value);
    StoreLE(out.data() + out.size() - sizeof value, value);
  };
  int32_t n_entries = 0;
  put(n_entries);
  for (const TensorInfo& tensor : manifest.tensors) {
    if (!tensor.layer || tensor.shape.rank() < 2) continue;
    ++n_entries;
    put(static_cast<int32_t>(tensor.name.size()));
    out.insert(out.end(), tensor.name.begin(), tensor.name.end());
    put(int32_t{1});
    put(static_cast<int32_t>(tensor.cols()));
    for (uint64_t i = 0; i < tensor.cols(); ++i) put(0x3F800000u);
  }
  StoreLE(out.data(), n_entries);
  return out;
}

int Run(int argc, char** argv) {
  for (const Llama& model : kModels) {
    if (argc < 3 || argc > 4 || argv[2] != model.name) continue;
    const Manifest manifest = ManifestOf(model);
    Write(argv[1], EncodeGgufHeader(manifest));
    std::filesystem::resize_file(argv[1], GgufFileBytes(manifest));
    if (argc == 4) Write(argv[3], ImatrixOf(manifest));
    return 0;
  }
  std::fprintf(stderr, "usage: make_sparse_gguf OUT MODEL [IMATRIX]\n");
  return 2;
}

}  // namespace
}  // namespace quern

int main(int argc, char** argv) {
  try {
    return quern::Run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "make_sparse_gguf: %s\n", error.what());
    return 1;
  }
}
