// Speed of what the containers do beside reading: hashing a model as `quern check` does. One core.
#include <benchmark/benchmark.h>

#include <vector>

#include "formats/core/file.h"
#include "formats/gguf_writer.h"
#include "formats/integrity_trailer.h"

namespace quern {
namespace {

// A model of eight q8_0 tensors, 34 MiB each, with its trailer.
std::vector<uint8_t> SealedModel() {
  Manifest manifest;
  for (int i = 0; i < 8; ++i) {
    TensorInfo tensor;
    tensor.name = "t" + std::to_string(i);
    tensor.dtype = DType::kQ8_0;
    tensor.shape = Shape{8192, 4096};
    manifest.tensors.push_back(tensor);
  }
  struct Into final : Output {
    std::vector<uint8_t>& out;
    std::string file = "(memory)";
    explicit Into(std::vector<uint8_t>& bytes) : out(bytes) {}
    const std::string& name() const override { return file; }
    void Write(ByteView bytes) override { out.insert(out.end(), bytes.begin(), bytes.end()); }
    void Commit() override {}
  };
  std::vector<uint8_t> file;
  const auto sink = MakeGgufWriter(std::make_unique<Into>(file), {.trailer = true});
  sink->Begin(manifest);
  for (size_t i = 0; i < manifest.tensors.size(); ++i) {
    std::vector<uint8_t> bytes(manifest.tensors[i].size_bytes());
    uint32_t x = static_cast<uint32_t>(i);
    for (uint8_t& byte : bytes) {
      x = x * 1664525 + 1013904223;
      byte = static_cast<uint8_t>(x >> 24);
    }
    sink->Put({i, 0, manifest.tensors[i].rows(), bytes});
  }
  sink->Finish();
  return file;
}

void BM_CheckTrailer(benchmark::State& state) {
  const std::vector<uint8_t> bytes = SealedModel();
  const GgufFile file(std::make_shared<MemoryBytes>(bytes, "(memory)"));
  for (auto _ : state) {
    if (!CheckGgufIntegrity(file).empty()) state.SkipWithError("the model is not sound");
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * bytes.size()));
}
BENCHMARK(BM_CheckTrailer)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace quern

BENCHMARK_MAIN();
