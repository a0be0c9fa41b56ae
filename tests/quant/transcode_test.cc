#include "quant/transcode.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <map>
#include <stdexcept>

#include "formats/core/error.h"
#include "formats/core/half.h"
#include "tests/quant/vectors.h"

namespace quern {
namespace {

// A model in memory; each tensor's bytes in its own type.
class MemoryStore final : public TensorStore {
 public:
  void Add(std::string name, TensorRole role, DType type, Shape shape, uint64_t seed) {
    TensorInfo info{std::move(name), role, std::nullopt, type, shape};
    const std::vector<float> x = GaussianWeights(shape.n_elems(), seed);
    std::vector<uint8_t> bytes(info.size_bytes());
    if (x.size() != 0) {
      FindCodec(type)->encode({x.data(), info.rows(), info.cols()}, bytes.data());
    }
    manifest_.tensors.push_back(std::move(info));
    data_.push_back(std::move(bytes));
  }
  const Manifest& manifest() const override { return manifest_; }
  const std::string& name() const override { return name_; }
  void ReadRows(size_t tensor, uint64_t begin, uint64_t count, MutableByteView out) const override {
    if (failing_tensor_ && *failing_tensor_ == tensor) throw std::runtime_error("disk on fire");
    const uint64_t row = manifest_.tensors[tensor].row_bytes();
    std::memcpy(out.data(), data_[tensor].data() + begin * row, count * row);
  }
  std::vector<uint8_t>& data(size_t tensor) { return data_[tensor]; }
  void FailAt(size_t tensor) { failing_tensor_ = tensor; }

 private:
  Manifest manifest_;
  std::vector<std::vector<uint8_t>> data_;
  std::string name_ = "memory.gguf";
  std::optional<size_t> failing_tensor_;
};

// Collects bands and checks that they come whole and in order.
class MemorySink final : public TensorSink {
 public:
  void Begin(const Manifest& manifest) override {
    manifest_ = manifest;
    data_.resize(manifest.tensors.size());
  }
  void Put(const TensorBand& band) override {
    if (fail_after_puts_ && puts_++ >= *fail_after_puts_) throw std::runtime_error("disk full");
    const TensorInfo& info = manifest_.tensors.at(band.tensor);
    ASSERT_GE(band.tensor, tensor_);
    tensor_ = band.tensor;
    ASSERT_EQ(data_[tensor_].size(), band.row_begin * info.row_bytes());
    ASSERT_EQ(band.bytes.size(), band.row_count * info.row_bytes());
    data_[tensor_].insert(data_[tensor_].end(), band.bytes.begin(), band.bytes.end());
  }
  void Finish() override {
    for (size_t i = 0; i < data_.size(); ++i) {
      ASSERT_EQ(data_[i].size(), manifest_.tensors[i].size_bytes()) << manifest_.tensors[i].name;
    }
    finished_ = true;
  }
  void FailAfter(size_t puts) { fail_after_puts_ = puts; }
  // Has the first tensors already, as `data` says.
  void Have(size_t n, const std::vector<std::vector<uint8_t>>& data) {
    n_present_ = n;
    data_.assign(data.begin(), data.begin() + static_cast<ptrdiff_t>(n));
  }
  size_t n_present() const override { return n_present_; }
  bool finished() const { return finished_; }
  const std::vector<std::vector<uint8_t>>& data() const { return data_; }
  const Manifest& manifest() const { return manifest_; }

 private:
  Manifest manifest_;
  std::vector<std::vector<uint8_t>> data_;
  size_t tensor_ = 0, puts_ = 0, n_present_ = 0;
  std::optional<size_t> fail_after_puts_;
  bool finished_ = false;
};

MemoryStore SmallModel(DType type = DType::kF32) {
  MemoryStore store;
  store.Add("token_embd.weight", TensorRole::kTokenEmbedding, type, {300, 256}, 1);
  store.Add("blk.0.attn_norm.weight", TensorRole::kAttnNorm, type, {256}, 2);
  store.Add("blk.0.attn_q.weight", TensorRole::kAttnQ, type, {256, 256}, 3);
  store.Add("empty", TensorRole::kOther, type, {0, 256}, 4);
  store.Add("blk.0.ffn_gate.weight", TensorRole::kFfnGate, type, {173, 256}, 5);
  store.Add("blk.0.ffn_down.weight", TensorRole::kFfnDown, type, {256, 173}, 6);
  store.Add("output.weight", TensorRole::kOutput, type, {300, 256}, 7);
  return store;
}

std::vector<std::vector<uint8_t>> RunAll(const MemoryStore& store, const QuantPlan& plan,
                                      const TranscodeOptions& options) {
  StoreWalk source(store);
  MemorySink sink;
  const TranscodeResult result = Transcode(source, plan, sink, options);
  EXPECT_TRUE(sink.finished());
  EXPECT_EQ(result.source_bytes, store.manifest().tensor_bytes());
  EXPECT_EQ(result.out_bytes, sink.manifest().tensor_bytes());
  return sink.data();
}

// What the plan asks for, tensor by tensor in one piece, without the pipeline.
std::vector<std::vector<uint8_t>> Expected(MemoryStore& store, const QuantPlan& plan) {
  std::vector<std::vector<uint8_t>> all;
  for (size_t i = 0; i < plan.entries.size(); ++i) {
    const TensorInfo& info = store.manifest().tensors[i];
    if (info.dtype == plan.entries[i].type) {
      all.push_back(store.data(i));
      continue;
    }
    const auto x = Decoded(*FindCodec(info.dtype), store.data(i));
    const BlockCodec& codec = *FindCodec(plan.entries[i].type);
    const std::vector<float>* weights =
        plan.importance != nullptr ? ImportanceOf(*plan.importance, info) : nullptr;
    all.push_back(Encoded(codec, codec.encode_scalar, x, plan.effort,
                          weights != nullptr ? weights->data() : nullptr, info.rows()));
  }
  return all;
}

TEST(Transcode, SameBytesForAnyThreadsAndBands) {
  auto importance = std::make_shared<Importance>();
  std::vector<float>& weights = importance->entries["blk.0.attn_q.weight"];
  for (uint64_t i = 0; i < 256; ++i) weights.push_back(static_cast<float>(std::exp(Gauss(119, i))));
  struct Case {
    const char* preset;
    PlanOptions options;
  };
  const std::vector<Case> cases = {{"source", {}},
                                   {"f16", {}},
                                   {"q8_0", {}},
                                   {"q4_k_m", {}},
                                   {"q4_k_m", {.effort = Effort::kBest, .importance = importance}},
                                   {"q3_k_m", {.importance = importance}}};
  for (const DType type : {DType::kF32, DType::kBF16}) {
    MemoryStore store = SmallModel(type);
    for (const auto& [preset, plan_options] : cases) {
      const QuantPlan plan = MakePlan(store.manifest(), preset, plan_options);
      const auto expected = Expected(store, plan);
      for (const unsigned threads : {1u, 2u, 7u, 64u}) {
        for (const uint64_t band_bytes : {1u, 12345u, 1u << 22}) {
          TranscodeOptions options;
          options.threads = threads;
          options.band_bytes = band_bytes;
          EXPECT_EQ(RunAll(store, plan, options), expected)
              << NameOf(type) << " to " << preset << ", " << threads << " threads, bands of "
              << band_bytes;
        }
      }
    }
  }
}

// A source that has to read over what is left out.
class PlainSource final : public TensorSource {
 public:
  explicit PlainSource(const TensorStore& store) : walk_(store) {}
  const Manifest& manifest() const override { return walk_.manifest(); }
  const std::string& name() const override { return walk_.name(); }
  std::optional<TensorBand> Next(MutableByteView out) override { return walk_.Next(out); }

 private:
  StoreWalk walk_;
};

TEST(Transcode, LeavesOutWhatTheSinkHas) {
  MemoryStore store = SmallModel();
  const QuantPlan plan = MakePlan(store.manifest(), "q4_0");
  const auto expected = Expected(store, plan);
  for (size_t n = 0; n <= expected.size(); ++n) {
    StoreWalk walk(store);
    PlainSource plain(store);
    for (TensorSource* source :
         {static_cast<TensorSource*>(&walk), static_cast<TensorSource*>(&plain)}) {
      MemorySink sink;
      sink.Have(n, expected);
      const TranscodeResult result =
          Transcode(*source, plan, sink, {.threads = 2, .band_bytes = 40000});
      EXPECT_TRUE(sink.finished());
      EXPECT_EQ(sink.data(), expected) << n;
      uint64_t n_bytes = 0;
      for (size_t i = n; i < expected.size(); ++i) n_bytes += expected[i].size();
      EXPECT_EQ(result.out_bytes, n_bytes) << n;
    }
  }
}

TEST(Transcode, EveryPresetGivesWhatItsCodecsGive) {
  MemoryStore store = SmallModel(DType::kF16);
  for (const Preset& preset : AllPresets()) {
    for (const Effort effort : {Effort::kFast, Effort::kNormal}) {
      const QuantPlan plan = MakePlan(store.manifest(), preset.name, {.effort = effort});
      EXPECT_EQ(RunAll(store, plan, {.threads = 2, .band_bytes = 40000}), Expected(store, plan))
          << preset.name;
    }
  }
}

TEST(Transcode, ImportanceReachesTheEncoder) {
  MemoryStore store = SmallModel();
  auto importance = std::make_shared<Importance>();
  std::vector<float>& weights = importance->entries["blk.0.attn_q.weight"];
  for (uint64_t i = 0; i < 256; ++i) weights.push_back(static_cast<float>(std::exp(Gauss(119, i))));
  importance->entries["blk.0.ffn_gate.weight"] = std::vector<float>(256, 0.0f);
  const QuantPlan plain = MakePlan(store.manifest(), "q4_k_s");
  const QuantPlan plan = MakePlan(store.manifest(), "q4_k_s", {.importance = importance});
  auto expected = Expected(store, plain);
  const auto x = Decoded(*FindCodec(DType::kF32), store.data(2));
  const BlockCodec& codec = *FindCodec(DType::kQ4_K);
  expected[2] = Encoded(codec, codec.encode_scalar, x, Effort::kNormal, weights.data(), 256);
  EXPECT_EQ(RunAll(store, plan, {.band_bytes = 5000}), expected);
}

TEST(Transcode, SmallBudgetsGiveTheSameBytes) {
  MemoryStore store = SmallModel();
  const QuantPlan plan = MakePlan(store.manifest(), "q8_0");
  TranscodeOptions options;
  options.threads = 2;
  options.memory_bytes = 200'000;
  EXPECT_EQ(RunAll(store, plan, options), Expected(store, plan));
}

TEST(Transcode, ARowThatCannotFitNamesTensorAndNeed) {
  const MemoryStore store = SmallModel();
  StoreWalk source(store);
  MemorySink sink;
  TranscodeOptions options;
  options.memory_bytes = 1000;
  try {
    (void)Transcode(source, MakePlan(store.manifest(), "q8_0"), sink, options);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "memory.budget");
    EXPECT_EQ(error.code(), ErrorCode::kMemory);
    EXPECT_NE(std::string(error.what()).find("token_embd.weight"), std::string::npos);
    EXPECT_NE(error.hint().find("--memory"), std::string::npos);
  }
  EXPECT_TRUE(sink.manifest().tensors.empty()) << "the sink was begun";
}

// Runs the store to q8_0 and returns the error.
std::optional<Error> ErrorOf(const MemoryStore& store, const char* preset = "q8_0") {
  for (const unsigned threads : {1u, 2u, 7u}) {
    StoreWalk source(store);
    MemorySink sink;
    TranscodeOptions options;
    options.threads = threads;
    options.band_bytes = 4096;
    try {
      (void)Transcode(source, MakePlan(store.manifest(), preset), sink, options);
    } catch (const Error& error) {
      EXPECT_FALSE(sink.finished());
      if (threads == 7) return error;
    }
  }
  return std::nullopt;
}

TEST(Transcode, NamesTheFirstValueThatIsNotFinite) {
  MemoryStore store = SmallModel();
  auto* gate = reinterpret_cast<float*>(store.data(4).data());
  gate[100 * 256 + 17] = NAN;
  gate[101 * 256 + 3] = INFINITY;
  reinterpret_cast<float*>(store.data(6).data())[0] = NAN;
  for (const char* preset : {"q8_0", "q4_k_m", "f16", "source", "f32"}) {
    const auto error = ErrorOf(store, preset);
    ASSERT_TRUE(error) << preset;
    EXPECT_EQ(error->id(), "quant.non-finite");
    EXPECT_EQ(error->code(), ErrorCode::kData);
    EXPECT_EQ(error->file(), "memory.gguf");
    const std::string message = error->what();
    EXPECT_NE(message.find("'blk.0.ffn_gate.weight', row 100, column 17"), std::string::npos)
        << message;
    EXPECT_NE(message.find("nan"), std::string::npos) << message;
  }
}

TEST(Transcode, ChecksTensorsThatAreOnlyCopied) {
  MemoryStore store;
  store.Add("other", TensorRole::kOther, DType::kF16, {3, 64}, 1);
  StoreLE(store.data(0).data() + 2 * 130, uint16_t{0xFC00});
  const auto error = ErrorOf(store);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->id(), "quant.non-finite");
  const std::string message = error->what();
  EXPECT_NE(message.find("'other', row 2, column 2"), std::string::npos) << message;
  EXPECT_NE(message.find("-inf"), std::string::npos) << message;
}

TEST(Transcode, NamesAValueThatOverflowsTheType) {
  MemoryStore store = SmallModel();
  reinterpret_cast<float*>(store.data(0).data())[2 * 256 + 9] = -1e38f;
  const auto error = ErrorOf(store);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->id(), "quant.overflow");
  EXPECT_NE(std::string(error->what()).find("'token_embd.weight', row 2, column 9"),
            std::string::npos);
  EXPECT_FALSE(ErrorOf(store, "bf16"));
}

TEST(Transcode, ExceptionsOfTheSinkArriveIntact) {
  const MemoryStore store = SmallModel();
  for (const unsigned threads : {1u, 2u, 7u}) {
    for (const size_t puts : {0u, 1u, 20u}) {
      StoreWalk source(store);
      MemorySink sink;
      sink.FailAfter(puts);
      TranscodeOptions options;
      options.threads = threads;
      options.band_bytes = 4096;
      try {
        (void)Transcode(source, MakePlan(store.manifest(), "q4_0"), sink, options);
        FAIL() << "no exception";
      } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "disk full");
      }
      EXPECT_FALSE(sink.finished());
    }
  }
}

TEST(Transcode, ExceptionsOfTheSourceArriveIntact) {
  MemoryStore store = SmallModel();
  store.FailAt(4);
  StoreWalk source(store);
  MemorySink sink;
  try {
    (void)Transcode(source, MakePlan(store.manifest(), "q4_0"), sink, {.threads = 2});
    FAIL() << "no exception";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "disk on fire");
  }
  EXPECT_FALSE(sink.finished());
}

class CountingProgress final : public Progress {
 public:
  void Begin(std::string_view, uint64_t total, std::string_view unit) override {
    total_ = total;
    EXPECT_EQ(unit, "bytes");
  }
  void Advance(uint64_t n) override { done_ += n; }
  void End() override { ended_ = true; }
  uint64_t total_ = 0;
  std::atomic<uint64_t> done_ = 0;
  bool ended_ = false;
};

TEST(Transcode, ReportsProgressInSourceBytes) {
  const MemoryStore store = SmallModel();
  StoreWalk source(store);
  MemorySink sink;
  CountingProgress progress;
  (void)Transcode(source, MakePlan(store.manifest(), "q8_0"), sink, {.progress = &progress});
  EXPECT_EQ(progress.total_, store.manifest().tensor_bytes());
  EXPECT_EQ(progress.done_, progress.total_);
  EXPECT_TRUE(progress.ended_);
}

TEST(Transcode, QuantizedTensorsOfTheSameTypeAreCopied) {
  MemoryStore store;
  store.Add("blk.0.attn_q.weight", TensorRole::kAttnQ, DType::kQ4_0, {64, 256}, 1);
  const QuantPlan plan = MakePlan(store.manifest(), "q4_0");
  EXPECT_EQ(RunAll(store, plan, {})[0], store.data(0));
}

}  // namespace
}  // namespace quern
