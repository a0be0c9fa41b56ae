// Speed of what the containers do beside reading, on one core: hashing a model as `quern check`
// does, packing and unpacking. Bytes are those of the GGUF file.
#include <benchmark/benchmark.h>
#include <oneapi/tbb/global_control.h>

#include "bench/formats/model_in_memory.h"
#include "formats/integrity_trailer.h"
#include "formats/qpack_reader.h"
#include "formats/qpack_writer.h"

namespace quern {
namespace {

constexpr uint64_t kRows = 4096;

void Count(benchmark::State& state, const std::vector<uint8_t>& gguf) {
  state.SetBytesProcessed(
      static_cast<int64_t>(static_cast<uint64_t>(state.iterations()) * gguf.size()));
}

void BM_CheckTrailer(benchmark::State& state) {
  const auto gguf = GaussianModel(DType::kBF16, kRows);
  const GgufFile file(std::make_shared<MemoryBytes>(gguf, "(memory)"));
  for (auto _ : state) {
    if (!CheckGgufIntegrity(file).empty()) state.SkipWithError("the model is not sound");
  }
  Count(state, gguf);
}

std::vector<uint8_t> Packed(const std::vector<uint8_t>& gguf, int level) {
  std::vector<uint8_t> out;
  out.reserve(gguf.size() + gguf.size() / 1000 + 1000);
  const auto output = MakeQpackOutput(std::make_unique<IntoVector>(out), {.level = level});
  output->Write(gguf);
  output->Commit();
  return out;
}

void BM_Pack(benchmark::State& state, DType type, int level) {
  const auto gguf = GaussianModel(type, kRows);
  for (auto _ : state) benchmark::DoNotOptimize(Packed(gguf, level));
  Count(state, gguf);
}

void BM_Unpack(benchmark::State& state, DType type) {
  const auto gguf = GaussianModel(type, kRows);
  const auto qpack = Packed(gguf, 1);
  const auto file = std::make_shared<MemoryBytes>(qpack, "(memory)");
  std::vector<uint8_t> buffer(4 << 20);
  for (auto _ : state) {
    const auto stream = UnpackStream(std::make_unique<RandomAccessStream>(*file));
    uint64_t n_bytes = 0;
    while (const size_t n = stream->Read(buffer)) n_bytes += n;
    if (n_bytes != gguf.size()) state.SkipWithError("another length came out");
  }
  Count(state, gguf);
}

void RegisterAll() {
  const auto Name = [](const char* what, DType type) {
    return std::string(what) + "/" + std::string(NameOf(type));
  };
  benchmark::RegisterBenchmark("BM_CheckTrailer", BM_CheckTrailer)->Unit(benchmark::kMillisecond);
  for (const BlockCodec* codec : AllCodecs()) {
    const DType type = codec->type;
    benchmark::RegisterBenchmark(Name("BM_Pack", type).c_str(), BM_Pack, type, 1)
        ->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark(Name("BM_Unpack", type).c_str(), BM_Unpack, type)
        ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace
}  // namespace quern

int main(int argc, char** argv) {
  const tbb::global_control one(tbb::global_control::max_allowed_parallelism, 1);
  quern::RegisterAll();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
