// Speed of every codec, one thread, beside ggml's in the same run where QUERN_GGML_BASE names a
// libggml-base.so. QUERN_ISA caps the instruction set, QUERN_BENCH_ROWS the number of rows of 4096
// (default 1024 = 4 Mi weights; 16384 = 64 Mi).
//
// Names: BM_Encode/TYPE/EFFORT[/importance], BM_EncodeGgml/TYPE[/importance], BM_Decode/TYPE,
// BM_DecodeGgml/TYPE. items_per_second = weights per second.
//
// codec_bench --table prints, as Markdown, how many times as fast as ggml each type is: 64 Mi
// weights, the median of five pairs of neighbours in time, wall time; also under --isa AVX2, with two
// threads, and decoding. Give it a quiet machine, and half an hour (bench/quant/codec_table.sh). --benchmark_filter narrows it.
#include <benchmark/benchmark.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
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

uint64_t default_rows = 1024;

uint64_t Rows() {
  const char* rows = std::getenv("QUERN_BENCH_ROWS");
  const uint64_t n = rows != nullptr ? std::strtoull(rows, nullptr, 10) : default_rows;
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

using QuantizeChunk = size_t (*)(int, const float*, void*, int64_t, int64_t, int64_t, const float*);
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

// Calls `encode(x, out)` for runs of kRowsPerCall rows over all weights; of several threads each
// takes its share of the runs.
template <class EncodeRun>
void RunEncode(benchmark::State& state, DType type, const EncodeRun& encode) {
  const std::vector<float>& x = Weights();
  const uint64_t n_runs = x.size() / (kRowsPerCall * kCols);
  const auto threads = static_cast<uint64_t>(state.threads());
  const uint64_t begin = n_runs * static_cast<uint64_t>(state.thread_index()) / threads;
  const uint64_t end = n_runs * (static_cast<uint64_t>(state.thread_index()) + 1) / threads;
  const uint64_t out_step = *RowBytes(type, kRowsPerCall * kCols);
  std::vector<uint8_t> out((end - begin) * out_step);
  for (auto _ : state) {
    uint8_t* to = out.data();
    for (uint64_t run = begin; run < end; ++run, to += out_step) {
      encode(x.data() + run * kRowsPerCall * kCols, to);
    }
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) *
                          static_cast<int64_t>((end - begin) * kRowsPerCall * kCols));
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

constexpr const char* kEffortNames[] = {"fast", "normal", "best"};

auto EncodeBody(const BlockCodec& codec, Effort effort, bool weighted,
                std::string_view isa = "best") {
  return [&codec, effort, weighted, isa = std::string(isa)](benchmark::State& state) {
    if (isa != "best") CapIsa(isa);
    const float* importance = weighted ? Importance().data() : nullptr;
    RunEncode(state, codec.type, [&](const float* x, uint8_t* out) {
      codec.encode({x, kRowsPerCall, kCols, importance, effort}, out);
    });
    if (isa != "best") CapIsa("best");
  };
}

auto GgmlEncodeBody(const BlockCodec& codec, bool weighted, QuantizeChunk chunk) {
  return [&codec, weighted, chunk](benchmark::State& state) {
    const float* importance = weighted ? Importance().data() : nullptr;
    const int id = static_cast<int>(LayoutOf(codec.type).gguf_id);
    RunEncode(state, codec.type, [&](const float* x, uint8_t* out) {
      chunk(id, x, out, 0, kRowsPerCall, kCols, importance);
    });
  };
}

auto DecodeBody(const BlockCodec& codec) {
  return [&codec](benchmark::State& state) { RunDecode(state, codec, codec.decode); };
}

auto GgmlDecodeBody(const BlockCodec& codec, DequantizeRow row) {
  return [&codec, row](benchmark::State& state) {
    RunDecode(state, codec, [row](const uint8_t* blocks, uint64_t n, float* y) {
      row(blocks, y, static_cast<int64_t>(n));
    });
  };
}

QuantizeChunk GgmlQuantize() {
  return reinterpret_cast<QuantizeChunk>(GgmlSymbol("ggml_quantize_chunk"));
}

void RegisterType(const BlockCodec& codec) {
  const std::string type(NameOf(codec.type));
  for (const bool weighted : {false, true}) {
    const std::string suffix = weighted ? "/importance" : "";
    for (const Effort effort : {Effort::kFast, Effort::kNormal, Effort::kBest}) {
      Register("BM_Encode/" + type + "/" + kEffortNames[static_cast<int>(effort)] + suffix,
               EncodeBody(codec, effort, weighted));
    }
    if (const QuantizeChunk chunk = GgmlQuantize()) {
      Register("BM_EncodeGgml/" + type + suffix, GgmlEncodeBody(codec, weighted, chunk));
    }
  }
  Register("BM_Decode/" + type, DecodeBody(codec));
  if (const auto row = reinterpret_cast<DequantizeRow>(GgmlDequantize(codec.type))) {
    Register("BM_DecodeGgml/" + type, GgmlDecodeBody(codec, row));
  }
}

// What is asked of one thread with AVX-512, as a multiple of ggml's speed.
struct Asked {
  DType type;
  Effort effort;
  bool weighted;
  double multiple;
};
constexpr Asked kAsked[] = {
    {DType::kQ4_K, Effort::kNormal, false, 30},   {DType::kQ4_K, Effort::kNormal, true, 35},
    {DType::kQ5_K, Effort::kNormal, false, 20},   {DType::kQ6_K, Effort::kNormal, false, 12},
    {DType::kQ2_K, Effort::kNormal, false, 15},   {DType::kQ3_K, Effort::kNormal, false, 5},
    {DType::kIQ4_XS, Effort::kNormal, false, 40}, {DType::kIQ4_NL, Effort::kNormal, false, 40},
    {DType::kQ4_0, Effort::kNormal, true, 12},    {DType::kQ4_0, Effort::kNormal, false, 1.3},
    {DType::kQ4_0, Effort::kFast, false, 5},      {DType::kQ4_1, Effort::kNormal, true, 12},
    {DType::kQ4_1, Effort::kNormal, false, 1.3},  {DType::kQ4_1, Effort::kFast, false, 5},
    {DType::kQ5_0, Effort::kNormal, true, 12},    {DType::kQ5_0, Effort::kNormal, false, 1.3},
    {DType::kQ5_0, Effort::kFast, false, 5},      {DType::kQ5_1, Effort::kNormal, true, 12},
    {DType::kQ5_1, Effort::kNormal, false, 1.3},  {DType::kQ5_1, Effort::kFast, false, 5},
    {DType::kQ8_0, Effort::kNormal, false, 3},    {DType::kQ8_0, Effort::kFast, false, 10},
    {DType::kMXFP4, Effort::kNormal, false, 5},   {DType::kF16, Effort::kNormal, false, 3},
    {DType::kBF16, Effort::kNormal, false, 3}};
// Of that under AVX2; of one thread's speed with two; of ggml's speed in decoding.
constexpr double kAskedOfAvx2 = 0.45, kAskedOfTwoThreads = 1.8, kAskedOfDecode = 0.95;

std::string NameOf(const Asked& asked) {
  return std::string(NameOf(asked.type)) + "/" + kEffortNames[static_cast<int>(asked.effort)] +
         (asked.weighted ? "/importance" : "");
}

// Keeps the rates of all runs, in their order; prints no more than the names as they end.
class RateCollector final : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration || run.error_occurred) continue;
      std::string name = run.benchmark_name();
      name = name.substr(0, name.find("/real_time"));
      rates_[name].push_back(run.counters.at("items_per_second").value);
    }
  }
  // Returns the median of the k-th run of `name` over the k-th of `base`, or 0 where one is
  // missing.
  double Ratio(const std::string& name, const std::string& base) const {
    const auto a = rates_.find(name), b = rates_.find(base);
    if (a == rates_.end() || b == rates_.end()) return 0;
    std::vector<double> ratios;
    for (size_t k = 0; k < std::min(a->second.size(), b->second.size()); ++k) {
      ratios.push_back(a->second[k] / b->second[k]);
    }
    return Median(std::move(ratios));
  }
  // Units: millions of weights per second.
  double Rate(const std::string& name) const {
    const auto found = rates_.find(name);
    return found == rates_.end() ? 0 : Median(found->second) / 1e6;
  }

 private:
  static double Median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
  }
  std::map<std::string, std::vector<double>> rates_;
};

// Runs the benchmarks that `add_all` registers once, one after the other.
template <class AddAll>
void RunOnce(RateCollector& rates, const AddAll& add_all) {
  benchmark::ClearRegisteredBenchmarks();
  add_all([](const std::string& name, auto body, int threads = 1) {
    benchmark::RegisterBenchmark(name.c_str(), body)->Threads(threads)->UseRealTime();
  });
  benchmark::RunSpecifiedBenchmarks(&rates);
}

std::string BaseOf(const Asked& asked) {
  return "Ggml/" + NameOf(asked);
}

// Runs everything `n` times; what is compared follows one another, so that it meets the same machine.
void RunTurns(size_t n, RateCollector& rates) {
  for (size_t turn = 0; turn < n; ++turn) {
    for (const Asked& asked : kAsked) {
      const BlockCodec& codec = *FindCodec(asked.type);
      const std::string name = NameOf(asked);
      RunOnce(rates, [&](auto add) {
        add("Ours/" + name, EncodeBody(codec, asked.effort, asked.weighted));
        add(BaseOf(asked), GgmlEncodeBody(codec, asked.weighted, GgmlQuantize()));
        add("Avx2/" + name, EncodeBody(codec, asked.effort, asked.weighted, "avx2"));
        add("Ours1/" + name, EncodeBody(codec, asked.effort, asked.weighted));
        add("Two/" + name, EncodeBody(codec, asked.effort, asked.weighted), 2);
      });
    }
    for (const BlockCodec* codec : AllCodecs()) {
      const auto row = reinterpret_cast<DequantizeRow>(GgmlDequantize(codec->type));
      if (row == nullptr) continue;
      RunOnce(rates, [&](auto add) {
        add("Decode/" + std::string(NameOf(codec->type)), DecodeBody(*codec));
        add("DecodeGgml/" + std::string(NameOf(codec->type)), GgmlDecodeBody(*codec, row));
      });
    }
  }
}

// A ratio, in bold where it is below what is asked.
std::string Cell(double ratio, double asked) {
  if (ratio == 0) return "";
  return ratio >= asked ? fmt::format("{:.3g}", ratio) : fmt::format("**{:.3g}**", ratio);
}

void PrintTable(const RateCollector& rates) {
  fmt::print(
      "| encode | M weights/s | ggml's | times | asked | AVX2, times | asked | two threads (asked "
      "{}) |\n|---|---|---|---|---|---|---|---|\n",
      kAskedOfTwoThreads);
  for (const Asked& asked : kAsked) {
    const std::string name = NameOf(asked);
    const std::string base = BaseOf(asked);
    const double avx2 = asked.multiple * kAskedOfAvx2;
    fmt::print("| {} | {:.0f} | {:.1f} | {} | {} | {} | {:.3g} | {} |\n", name,
               rates.Rate("Ours/" + name), rates.Rate(base),
               Cell(rates.Ratio("Ours/" + name, base), asked.multiple), asked.multiple,
               Cell(rates.Ratio("Avx2/" + name, base), avx2), avx2,
               Cell(rates.Ratio("Two/" + name, "Ours1/" + name), kAskedOfTwoThreads));
  }
  fmt::print("\n| decode | M weights/s | ggml's | times (asked {}) |\n|---|---|---|---|\n",
             kAskedOfDecode);
  for (const BlockCodec* codec : AllCodecs()) {
    const std::string type(NameOf(codec->type));
    if (rates.Rate("Decode/" + type) == 0) continue;
    fmt::print("| {} | {:.0f} | {:.0f} | {} |\n", type, rates.Rate("Decode/" + type),
               rates.Rate("DecodeGgml/" + type),
               Cell(rates.Ratio("Decode/" + type, "DecodeGgml/" + type), kAskedOfDecode));
  }
}

int RunTable(std::vector<char*> args) {
  if (GgmlQuantize() == nullptr) {
    fmt::print(stderr, "codec_bench: QUERN_GGML_BASE names no libggml-base.so\n");
    return 1;
  }
  default_rows = 16384;
  int argc = static_cast<int>(args.size());
  benchmark::Initialize(&argc, args.data());
  if (benchmark::ReportUnrecognizedArguments(argc, args.data())) return 1;
  RateCollector rates;
  RunTurns(5, rates);
  PrintTable(rates);
  return 0;
}

}  // namespace
}  // namespace quern

int main(int argc, char** argv) {
  if (const char* isa = std::getenv("QUERN_ISA")) quern::CapIsa(isa);
  if (argc > 1 && std::strcmp(argv[1], "--table") == 0) {
    std::vector<char*> args(argv, argv + argc);
    args.erase(args.begin() + 1);
    return quern::RunTable(std::move(args));
  }
  for (const quern::BlockCodec* codec : quern::AllCodecs()) quern::RegisterType(*codec);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("isa", std::string(quern::CurrentIsa()));
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
