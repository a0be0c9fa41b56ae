// Speed of the products and of whole forward passes.
//
// BM_Product/KIND/rows:R      one tile of 128 rows of 4096 columns, one thread, by CPU time
// BM_Fill/KIND                packing such a tile
// BM_Attention/context:N      one window, 32 heads of 128, one thread
// BM_Vocabulary               statistics over 32,000 logits per prediction, one thread
// BM_Forward/7b/TYPE/COMPUTE  windows of 512 through a model of Llama 2 7B's widths, all threads;
//                             FLOP_per_second counts products only, s_20_windows_32_layers is the
//                             time that 20 windows of a whole 7B would take.
// QUERN_BENCH_LAYERS (2), QUERN_BENCH_WINDOWS (20) and QUERN_BENCH_THREADS (all) set the last one.
#include <benchmark/benchmark.h>
#include <tbb/global_control.h>
#include <tbb/task_arena.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "formats/core/half.h"
#include "formats/gguf_metadata.h"
#include "quant/codec.h"
#include "verify/attention.h"
#include "verify/evaluate.h"
#include "verify/gemm.h"
#include "verify/ops.h"

namespace quern {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t fallback) {
  const char* value = std::getenv(name);
  return value != nullptr ? std::strtoull(value, nullptr, 10) : fallback;
}

// Pseudo-random floats in (-1, 1).
std::vector<float> Floats(size_t n, float scale) {
  std::vector<float> values(n);
  uint32_t state = 1;
  for (float& v : values) {
    state = state * 1664525u + 1013904223u;
    v = (static_cast<float>(state >> 8) / 8388608.0f - 1.0f) * scale;
  }
  return values;
}

// A model of Llama 2 7B's widths. Every tensor's rows come out of one short pool, so that the store
// needs no memory to speak of; the first rows of a tile differ from layer to layer.
class WideStore final : public TensorStore {
 public:
  WideStore(uint32_t n_layers, DType type) {
    ModelSpec spec;
    spec.arch = "llama";
    spec.n_layers = n_layers;
    spec.n_heads = spec.n_kv_heads = 32;
    spec.head_dim = 128;
    spec.d_model = 4096;
    spec.d_ff = 11008;
    spec.vocab_size = 32000;
    spec.context_length = 4096;
    spec.norm_eps = 1e-5f;
    spec.rope_theta = 10000;
    manifest_.spec = spec;
    Add(TensorRole::kTokenEmbedding, {}, {32000, 4096}, type);
    for (uint32_t i = 0; i < n_layers; ++i) {
      Add(TensorRole::kAttnNorm, i, {4096}, DType::kF32);
      for (const TensorRole role : {TensorRole::kAttnQ, TensorRole::kAttnK, TensorRole::kAttnV,
                                    TensorRole::kAttnOutput}) {
        Add(role, i, {4096, 4096}, type);
      }
      Add(TensorRole::kFfnNorm, i, {4096}, DType::kF32);
      Add(TensorRole::kFfnGate, i, {11008, 4096}, type);
      Add(TensorRole::kFfnUp, i, {11008, 4096}, type);
      Add(TensorRole::kFfnDown, i, {4096, 11008}, type);
    }
    Add(TensorRole::kOutputNorm, {}, {4096}, DType::kF32);
    Add(TensorRole::kOutput, {}, {32000, 4096}, type);
    const std::vector<float> values = Floats(kPoolElems, 0.02f);
    FillPool(DType::kF32, values);
    FillPool(type, values);
  }

  const Manifest& manifest() const override { return manifest_; }
  const std::string& name() const override { return name_; }
  void ReadRows(size_t tensor, uint64_t begin, uint64_t count, MutableByteView out) const override {
    const TensorInfo& info = manifest_.tensors[tensor];
    const std::vector<uint8_t>& pool = pools_[static_cast<size_t>(info.dtype)];
    const uint64_t block = LayoutOf(info.dtype).block_bytes;
    const uint64_t start = (tensor * 977 + begin * 13 + count) % 64 * block;
    for (uint64_t at = 0; at < out.size();) {
      const uint64_t n = std::min<uint64_t>(out.size() - at, pool.size() - start);
      std::memcpy(out.data() + at, pool.data() + start, n);
      at += n;
    }
  }

 private:
  static constexpr size_t kPoolElems = 1 << 20;

  void Add(TensorRole role, std::optional<uint32_t> layer, std::vector<uint64_t> dims, DType type) {
    manifest_.tensors.push_back(
        {TensorName(role, layer), role, layer, type, *Shape::Make(dims)});
  }
  void FillPool(DType type, const std::vector<float>& values) {
    std::vector<uint8_t>& pool = pools_[static_cast<size_t>(type)];
    pool.resize(*RowBytes(type, values.size()));
    EncodeInput input{values.data(), 1, values.size()};
    input.effort = Effort::kFast;
    FindCodec(type)->encode(input, pool.data());
  }

  std::string name_ = "7b widths";
  Manifest manifest_;
  std::vector<uint8_t> pools_[kDTypeCount];
};

Product ProductOf(const std::string& kind) {
  if (kind == "portable") return Product::kPortable;
  return ChooseProduct({.compute = kind == "onednn-bf16" ? Compute::kBF16 : Compute::kF32});
}

constexpr size_t kTileRows = 128, kCols = 4096;

void BM_Product(benchmark::State& state, const std::string& kind) {
  const auto rows = static_cast<size_t>(state.range(0));
  const std::vector<float> a = Floats(rows * kCols, 1), w = Floats(kTileRows * kCols, 1);
  std::vector<float> c(rows * kTileRows);
  WeightTile tile(ProductOf(kind));
  tile.Fill(w.data(), kTileRows, kCols);
  std::vector<uint16_t> rounded(a.size());
  for (size_t i = 0; i < a.size(); ++i) rounded[i] = F32ToBF16(a[i]);
  for (auto _ : state) {
    tile.Multiply({a.data(), rounded.data(), kCols}, rows, c.data(), kTileRows);
    benchmark::ClobberMemory();
  }
  state.counters["FLOP_per_second"] = benchmark::Counter(
      2.0 * static_cast<double>(rows * kTileRows * kCols),
      benchmark::Counter::kIsIterationInvariantRate);
}

void BM_Fill(benchmark::State& state, const std::string& kind) {
  const std::vector<float> w = Floats(kTileRows * kCols, 1);
  WeightTile tile(ProductOf(kind));
  for (auto _ : state) {
    tile.Fill(w.data(), kTileRows, kCols);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(w.size()));
}

void BM_Attention(benchmark::State& state) {
  const auto context = static_cast<uint64_t>(state.range(0));
  const std::vector<float> q = Floats(context * 4096, 1), k = Floats(context * 4096, 1);
  std::vector<float> out(q.size());
  const tbb::global_control one(tbb::global_control::max_allowed_parallelism, 1);
  for (auto _ : state) {
    Attention attention({.n_windows = 1,
                         .query_begin = 0,
                         .n_queries = context,
                         .n_heads = 32,
                         .n_kv_heads = 32,
                         .head_dim = 128},
                        q.data(), out.data());
    for (uint64_t begin = 0; begin < context; begin += kKeyBlock) {
      const float* rows = k.data() + begin * 4096;
      attention.Add(begin, std::min(kKeyBlock, context - begin), rows, rows, context);
    }
    attention.Finish();
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(context));
}
BENCHMARK(BM_Attention)->Arg(512)->Arg(2048)->ArgName("context");

void BM_Vocabulary(benchmark::State& state) {
  const std::vector<float> p = Floats(32000, 10), q = Floats(32000, 11);
  for (auto _ : state) {
    DivergenceSums sums;
    sums.Add(p.data(), q.data(), 0, p.size());
    benchmark::DoNotOptimize(sums.Kld());
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_Vocabulary);

// Multiply-adds count as two. Units: FLOP per token of one layer; per prediction of the output.
constexpr double kLayerFlop = 2.0 * (4.0 * 4096 * 4096 + 3.0 * 4096 * 11008);
constexpr double kOutputFlop = 2.0 * 32000 * 4096;

void BM_Forward(benchmark::State& state, DType type, Compute compute) {
  const auto n_layers = static_cast<uint32_t>(FromEnvironment("QUERN_BENCH_LAYERS", 2));
  const uint64_t n_windows = FromEnvironment("QUERN_BENCH_WINDOWS", 20);
  const WideStore store(n_layers, type);
  const auto model = OpenLanguageModel(store, {.compute = compute});
  TextWindows windows;
  windows.context = 512;
  windows.n_windows = n_windows;
  windows.scored_begin = 256;
  windows.n_scored = 255;
  for (uint64_t i = 0; i < n_windows * 512; ++i) {
    windows.inputs.push_back(static_cast<int32_t>(i * 7919 % 32000));
  }
  windows.targets.assign(n_windows * 255, 5);
  windows.places.resize(n_windows);
  PerplexityOptions options;
  options.threads = static_cast<unsigned>(FromEnvironment("QUERN_BENCH_THREADS", 0));
  for (auto _ : state) {
    const Candidate candidate = {model.get(), store.name()};
    benchmark::DoNotOptimize(Evaluate({&candidate, 1}, {}, windows, options).data());
  }
  // The last layer computes keys and values for all tokens, the rest for the scored ones.
  const auto tokens = static_cast<double>(n_windows * 512);
  const auto scored = static_cast<double>(n_windows * 255);
  const double key_value_flop = 2.0 * 2 * 4096 * 4096;
  const double layers_flop = kLayerFlop * (n_layers - 1) * tokens + key_value_flop * tokens +
                             (kLayerFlop - key_value_flop) * scored;
  const double flop = layers_flop + kOutputFlop * scored;
  state.counters["FLOP_per_second"] =
      benchmark::Counter(flop, benchmark::Counter::kIsIterationInvariantRate);
  const double whole = kLayerFlop * 31 * 20 * 512 + key_value_flop * 20 * 512 +
                       (kLayerFlop - key_value_flop) * 20 * 255 + kOutputFlop * 20 * 255;
  state.counters["s_20_windows_32_layers"] =
      benchmark::Counter(flop / whole, benchmark::Counter::kIsIterationInvariantRate |
                                           benchmark::Counter::kInvert);
}

[[maybe_unused]] const bool kRegistered = [] {
  std::vector<std::string> kinds = {"portable"};
  if (ChooseProduct({}) != Product::kPortable) kinds.insert(kinds.end(), {"onednn", "onednn-bf16"});
  for (const std::string& kind : kinds) {
    benchmark::RegisterBenchmark(("BM_Product/" + kind).c_str(), BM_Product, kind)
        ->Arg(512)->ArgName("rows");
    benchmark::RegisterBenchmark(("BM_Fill/" + kind).c_str(), BM_Fill, kind);
  }
  for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0, DType::kQ4_0}) {
    for (const Compute compute : {Compute::kF32, Compute::kBF16}) {
      if (compute == Compute::kBF16 && kinds.size() == 1) continue;
      const std::string name =
          "BM_Forward/7b/" + std::string(NameOf(type)) + "/" + std::string(NameOf(compute));
      benchmark::RegisterBenchmark(name.c_str(), BM_Forward, type, compute)
          ->Unit(benchmark::kSecond)->UseRealTime()->MeasureProcessCPUTime()->Iterations(1);
    }
  }
  return true;
}();

}  // namespace
}  // namespace quern
