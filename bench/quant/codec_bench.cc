// Speed of every codec, one thread, beside ggml's in the same run where QUERN_GGML_BASE names a
// libggml-base.so. QUERN_ISA caps the instruction set, QUERN_BENCH_ROWS the number of rows of 4096
// (default 1024 = 4 Mi weights; 16384 = 64 Mi).
//
// Names: BM_Encode/TYPE/EFFORT[/importance], BM_EncodeGgml/TYPE[/importance], BM_Decode/TYPE,
// BM_DecodeGgml/TYPE. items_per_second = weights per second.
#include <benchmark/benchmark.h>
#include <dlfcn.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "quant/codec.h"
#include "quant/isa.h"
#include "tests/quant/vectors.h"

namespace quern {
namespace {

constexpr uint64_t kCols = 4096;
// Rows that are encoded in one call, as the pipeline does.
constexpr uint64_t kRowsPerCall = 16;

uint64_t Rows() {
  const char* rows = std::getenv("QUERN_BENCH_ROWS");
  const uint64_t n = rows != nullptr ? std::strtoull(rows, nullptr, 10) : 1024;
  return (n + kRowsPerCall - 1) / kRowsPerCall * kRowsPerCall;
}

const std::vector<float>& Weights() {
  static const std::vector<float> weights = GaussianWeights(Rows() * kCols);
  return weights;
}

const std::vector<float>& Importance() {
  static const std::vector<float> importance = [] {
    std::vector<float> out(kCols);
    for (uint64_t i = 0; i < kCols; ++i) out[i] = static_cast<float>(std::exp(Gauss(119, i)));
    return out;
  }();
  return importance;
}

using QuantizeChunk = size_t (*)(int, const float*, void*, int64_t, int64_t, int64_t,
                                 const float*);
using DequantizeRow = void (*)(const void*, float*, int64_t);

void* GgmlSymbol(const std::string& name) {
  static void* library = [] {
    const char* path = std::getenv("QUERN_GGML_BASE");
    return path != nullptr ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
  }();
  return library != nullptr ? dlsym(library, name.c_str()) : nullptr;
}

void* GgmlDequantize(DType type) {
  std::string name(NameOf(type));
  if (name == "f16") return GgmlSymbol("ggml_fp16_to_fp32_row");
  if (name == "bf16") return GgmlSymbol("ggml_bf16_to_fp32_row");
  if (name.ends_with("_k")) name.back() = 'K';
  return GgmlSymbol("dequantize_row_" + name);
}

// Calls `encode(x, out)` for runs of kRowsPerCall rows over all weights.
template <class EncodeRun>
void RunEncode(benchmark::State& state, DType type, const EncodeRun& encode) {
  const std::vector<float>& x = Weights();
  std::vector<uint8_t> out(*RowBytes(type, x.size()));
  const uint64_t out_step = *RowBytes(type, kRowsPerCall * kCols);
  for (auto _ : state) {
    uint8_t* to = out.data();
    for (uint64_t i = 0; i < x.size(); i += kRowsPerCall * kCols, to += out_step) {
      encode(x.data() + i, to);
    }
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(x.size()));
}

// Decodes a window that stays in cache, again and again.
template <class DecodeRun>
void RunDecode(benchmark::State& state, const BlockCodec& codec, const DecodeRun& decode) {
  const std::vector<float>& x = Weights();
  constexpr uint64_t kWindow = kRowsPerCall * kCols;
  std::vector<uint8_t> blocks(*RowBytes(codec.type, kWindow));
  codec.encode({x.data(), kRowsPerCall, kCols, nullptr, Effort::kFast}, blocks.data());
  std::vector<float> y(kWindow);
  for (auto _ : state) {
    decode(blocks.data(), kWindow, y.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(kWindow));
}

void Register(const std::string& name, auto body) {
  benchmark::RegisterBenchmark(name.c_str(), body)->Unit(benchmark::kMillisecond);
}

void RegisterType(const BlockCodec& codec) {
  const std::string type(NameOf(codec.type));
  const auto chunk = reinterpret_cast<QuantizeChunk>(GgmlSymbol("ggml_quantize_chunk"));
  for (const bool weighted : {false, true}) {
    const std::string suffix = weighted ? "/importance" : "";
    for (const auto& [effort, effort_name] :
         {std::pair{Effort::kFast, "fast"}, {Effort::kNormal, "normal"}, {Effort::kBest, "best"}}) {
      Register("BM_Encode/" + type + "/" + effort_name + suffix,
               [&codec, weighted, effort = effort](benchmark::State& state) {
                 const float* importance = weighted ? Importance().data() : nullptr;
                 RunEncode(state, codec.type, [&](const float* x, uint8_t* out) {
                   codec.encode({x, kRowsPerCall, kCols, importance, effort}, out);
                 });
               });
    }
    if (chunk == nullptr) continue;
    Register("BM_EncodeGgml/" + type + suffix, [&codec, weighted, chunk](benchmark::State& state) {
      const float* importance = weighted ? Importance().data() : nullptr;
      const int id = static_cast<int>(LayoutOf(codec.type).gguf_id);
      RunEncode(state, codec.type, [&](const float* x, uint8_t* out) {
        chunk(id, x, out, 0, kRowsPerCall, kCols, importance);
      });
    });
  }
  Register("BM_Decode/" + type, [&codec](benchmark::State& state) {
    RunDecode(state, codec, codec.decode);
  });
  if (const auto row = reinterpret_cast<DequantizeRow>(GgmlDequantize(codec.type))) {
    Register("BM_DecodeGgml/" + type, [&codec, row](benchmark::State& state) {
      RunDecode(state, codec, [row](const uint8_t* blocks, uint64_t n, float* y) {
        row(blocks, y, static_cast<int64_t>(n));
      });
    });
  }
}

}  // namespace
}  // namespace quern

int main(int argc, char** argv) {
  if (const char* isa = std::getenv("QUERN_ISA")) quern::CapIsa(isa);
  for (const quern::BlockCodec* codec : quern::AllCodecs()) quern::RegisterType(*codec);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("isa", std::string(quern::CurrentIsa()));
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
