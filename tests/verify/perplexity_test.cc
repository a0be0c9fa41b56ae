#include "verify/perplexity.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <sstream>

#include "formats/core/error.h"
#include "formats/core/file.h"
#include "formats/core/hash.h"
#include "tests/verify/synthetic_model.h"
#include "verify/divergence.h"
#include "verify/evaluate.h"
#include "verify/row_store.h"
#include "verify/vocabulary.h"
#include "verify/windows.h"

namespace quern {
namespace {

// What golden_logits.txt holds of one case.
struct Golden {
  std::map<uint64_t, std::vector<double>> logits;  // position in the first window → one per token
  uint64_t windows = 0, predictions = 0;
  double mean_nll = 0;
};

std::map<std::string, Golden> ReadGolden() {
  std::map<std::string, Golden> cases;
  std::ifstream in(QUERN_SOURCE_DIR "/tests/verify/golden_logits.txt");
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string kind, name;
    words >> kind >> name;
    Golden& golden = cases[name];
    if (kind == "nll") {
      words >> golden.windows >> golden.predictions >> golden.mean_nll;
    } else {
      uint64_t position = 0;
      words >> position;
      for (double value = 0; words >> value;) golden.logits[position].push_back(value);
    }
  }
  return cases;
}

struct GoldenCase {
  const char* name;
  SyntheticSpec spec;
  Protocol protocol;
  uint64_t context;
  size_t text_bytes;
};

std::vector<GoldenCase> GoldenCases() {
  return {
      {"papers", {.rope_theta = 500000, .rope_divisors = true}, Protocol::kPapers, 2048, 4200},
      {"llama",
       {.n_kv_heads = 4, .rope_linear_factor = 4, .tied_embeddings = true},
       Protocol::kLlamaCpp,
       64,
       400},
      {"wide",
       {.n_layers = 1, .n_heads = 3, .n_kv_heads = 1, .head_dim = 20, .d_model = 60, .d_ff = 130},
       Protocol::kLlamaCpp,
       33,
       300}};
}

TEST(Llama, LogitsAgreeWithNumpy) {
  const auto golden = ReadGolden();
  ASSERT_EQ(golden.size(), 3u);
  for (const GoldenCase& c : GoldenCases()) {
    for (const bool portable : {false, true}) {
      const SyntheticStore store(c.spec);
      const auto model = OpenLanguageModel(store, {.portable_product = portable});
      PerplexityOptions options;
      options.protocol = c.protocol;
      options.context = c.context;
      const TextWindows windows = CutText(store, SyntheticText(c.text_bytes), options);
      std::vector<float> hidden(windows.n_scored * c.spec.d_model), logits(windows.n_scored * 259);
      model->Forward({.tokens = std::span(windows.inputs).first(windows.context),
                      .n_windows = 1,
                      .context = windows.context,
                      .scored_begin = windows.scored_begin,
                      .n_scored = windows.n_scored},
                     hidden);
      model->Logits(hidden, 0, 259, logits);
      for (const auto& [position, expected] : golden.at(c.name).logits) {
        ASSERT_EQ(expected.size(), 259u);
        for (size_t i = 0; i < 259; ++i) {
          ASSERT_NEAR(logits[(position - windows.scored_begin) * 259 + i], expected[i], 1e-4)
              << c.name << " position " << position << " token " << i;
        }
      }
    }
  }
}

TEST(Perplexity, AgreesWithNumpyOverWholeTexts) {
  const auto golden = ReadGolden();
  for (const GoldenCase& c : GoldenCases()) {
    const SyntheticStore store(c.spec);
    PerplexityOptions options;
    options.protocol = c.protocol;
    options.context = c.context;
    const std::string text = SyntheticText(c.text_bytes);
    const Report report = Perplexity(store, text, options);
    const Golden& expected = golden.at(c.name);
    EXPECT_EQ(report.windows, expected.windows);
    EXPECT_EQ(report.tokens, expected.predictions);
    EXPECT_NEAR(report.mean_nll.value, expected.mean_nll, 1e-5) << c.name;
    EXPECT_NEAR(report.perplexity.value, std::exp(expected.mean_nll),
                1e-4 * std::exp(expected.mean_nll));
    EXPECT_EQ(report.text_tokens, c.text_bytes + 1);
    EXPECT_EQ(report.text_bytes, c.text_bytes);
    EXPECT_EQ(report.text_xxh3, Xxh3(AsBytes(text)));
    EXPECT_EQ(report.context, c.context);
    EXPECT_EQ(report.predictions.nll.size(), report.tokens);
  }
}

TEST(Perplexity, TheBitsDoNotDependOnThreads) {
  for (const bool portable : {false, true}) {
    const SyntheticStore store({.d_model = 192, .d_ff = 300});
    PerplexityOptions options;
    options.context = 64;
    options.forward.portable_product = portable;
    options.threads = 1;
    const Report one = Perplexity(store, SyntheticText(2000), options);
    for (const unsigned threads : {2u, 7u}) {
      options.threads = threads;
      EXPECT_EQ(Perplexity(store, SyntheticText(2000), options).predictions.nll,
                one.predictions.nll)
          << threads;
    }
  }
}

TEST(Perplexity, MemoryChangesTheGroupsNotTheResult) {
  const SyntheticStore store({});
  PerplexityOptions options;
  options.context = 64;
  const Report all = Perplexity(store, SyntheticText(1500), options);
  ASSERT_EQ(all.windows, 23u);
  options.memory_bytes = 1 << 20;  // Room for a few windows at a time.
  const Report groups = Perplexity(store, SyntheticText(1500), options);
  ASSERT_EQ(groups.predictions.nll.size(), all.predictions.nll.size());
  EXPECT_EQ(groups.predictions.nll, all.predictions.nll);

  options.memory_bytes = 10000;
  try {
    Perplexity(store, SyntheticText(1500), options);
    FAIL() << "a window that does not fit was evaluated";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kMemory);
    EXPECT_EQ(error.id(), "memory.budget");
  }
}

// Counts how often each row of each tensor is read.
class CountingStore final : public TensorStore {
 public:
  explicit CountingStore(const SyntheticStore& store) : store_(store) {
    for (const TensorInfo& tensor : store.manifest().tensors) reads_.emplace_back(tensor.rows());
  }
  const Manifest& manifest() const override { return store_.manifest(); }
  const std::string& name() const override { return store_.name(); }
  void ReadRows(size_t tensor, uint64_t begin, uint64_t count, MutableByteView out) const override {
    for (uint64_t row = begin; row < begin + count; ++row) ++reads_[tensor][row];
    store_.ReadRows(tensor, begin, count, out);
  }
  mutable std::vector<std::vector<std::atomic<int>>> reads_;

 private:
  const SyntheticStore& store_;
};

TEST(Perplexity, EveryWeightIsReadOncePerGroup) {
  const SyntheticStore inner({});
  const CountingStore store(inner);
  PerplexityOptions options;
  options.context = 64;
  const TextWindows windows = CutText(store, SyntheticText(1500), options);  // 23, in one group
  const auto model = OpenLanguageModel(store, {});
  const Candidate candidate = {model.get(), store.name()};
  Evaluate({&candidate, 1}, {}, windows, options);
  for (size_t tensor = 0; tensor < store.reads_.size(); ++tensor) {
    const TensorInfo& info = inner.manifest().tensors[tensor];
    if (info.role == TensorRole::kTokenEmbedding) continue;  // A row per token, not the matrix.
    for (const auto& reads : store.reads_[tensor]) EXPECT_EQ(reads, 1) << info.name;
  }
}

TEST(Perplexity, SeveralGroupsReadEveryWeightEquallyOften) {
  const SyntheticStore inner({});
  const CountingStore store(inner);
  PerplexityOptions options;
  options.context = 64;
  options.memory_bytes = 1 << 20;
  const TextWindows windows = CutText(store, SyntheticText(1500), options);  // 23
  const auto model = OpenLanguageModel(store, {});
  const Candidate candidate = {model.get(), store.name()};
  Evaluate({&candidate, 1}, {}, windows, options);
  const int n_groups = store.reads_[inner.Find(TensorRole::kFfnDown, 1)][0];
  EXPECT_GT(n_groups, 1);
  EXPECT_LT(n_groups, 12);
  for (size_t tensor = 0; tensor < store.reads_.size(); ++tensor) {
    const TensorInfo& info = inner.manifest().tensors[tensor];
    const bool once = info.shape.rank() == 1;  // Norms are kept.
    if (info.role == TensorRole::kTokenEmbedding) continue;
    for (const auto& reads : store.reads_[tensor]) {
      EXPECT_EQ(reads, once ? 1 : n_groups) << info.name;
    }
  }
}

// Scored rows of one window, which goes through the layers in parts of `part_rows`.
std::vector<float> HiddenInParts(const LanguageModel& model, const TextWindows& windows,
                                 uint64_t part_rows, RowPlace place) {
  RowStore x(windows.context, model.spec().d_model, place);
  model.Forward({.tokens = std::span(windows.inputs).first(windows.context),
                 .n_windows = 1,
                 .context = windows.context,
                 .scored_begin = windows.scored_begin,
                 .n_scored = windows.n_scored,
                 .part_rows = part_rows,
                 .place = place},
                x);
  EXPECT_EQ(x.n_rows(), windows.n_scored);
  std::vector<float> buffer;
  const float* rows = x.Get(0, x.n_rows(), buffer);
  return std::vector<float>(rows, rows + x.n_rows() * x.cols());
}

TEST(Llama, PartsOfAWindowGiveTheSameBitsInMemoryAndInAFile) {
  const SyntheticStore store({.n_heads = 2, .n_kv_heads = 1, .head_dim = 8});
  for (const bool portable : {false, true}) {
    const auto model = OpenLanguageModel(store, {.portable_product = portable});
    for (const Protocol protocol : {Protocol::kLlamaCpp, Protocol::kPapers}) {
      PerplexityOptions options;
      options.protocol = protocol;
      options.context = 4500;  // More keys than are looked at at a time.
      const TextWindows windows = CutText(store, SyntheticText(9100), options);
      const std::vector<float> whole = HiddenInParts(*model, windows, 0, RowPlace::kMemory);
      for (const uint64_t part : {512u, 4096u}) {
        for (const RowPlace place : {RowPlace::kMemory, RowPlace::kFile}) {
          EXPECT_EQ(HiddenInParts(*model, windows, part, place), whole) << part;
        }
      }
    }
  }
}

TEST(Perplexity, AWindowThatDoesNotFitGoesThroughInPartsAndFromAFile) {
  const SyntheticSpec small = {.n_heads = 2, .n_kv_heads = 1, .head_dim = 8};
  SyntheticSpec rounded = small;
  rounded.matrix_type = DType::kF16;
  const SyntheticStore model(rounded), base(small);
  PerplexityOptions options;
  options.context = 5000;
  const std::string text = SyntheticText(10000);
  const Report whole = PerplexityAgainst(model, base, text, options);
  ASSERT_EQ(whole.windows, 2u);
  // Less and less memory, until nothing can be done.
  int n_in_memory = 0, n_in_file = 0;
  bool refused = false;
  for (uint64_t memory_bytes = 12 << 20; !refused; memory_bytes = memory_bytes * 6 / 7) {
    options.memory_bytes = memory_bytes;
    setenv("TMPDIR", "/nowhere/at/all", 1);
    bool in_memory = true;
    try {
      EXPECT_EQ(PerplexityAgainst(model, base, text, options).predictions.kld,
                whole.predictions.kld);
    } catch (const Error& error) {
      in_memory = false;
      refused = error.id() == "memory.budget";
      if (!refused) {
        EXPECT_EQ(error.id(), "spill.open") << error.what();
        EXPECT_EQ(error.code(), ErrorCode::kSystem);
        EXPECT_NE(error.hint().find("TMPDIR"), std::string::npos);
      }
    }
    unsetenv("TMPDIR");
    if (in_memory) ++n_in_memory;
    if (in_memory || refused) continue;
    ++n_in_file;
    const Report report = PerplexityAgainst(model, base, text, options);
    EXPECT_EQ(report.predictions.nll, whole.predictions.nll) << memory_bytes;
    EXPECT_EQ(report.predictions.kld, whole.predictions.kld) << memory_bytes;
  }
  EXPECT_GT(n_in_memory, 2);
  EXPECT_GT(n_in_file, 1);
}

TEST(RowStore, HoldsRowsInEitherPlace) {
  for (const RowPlace place : {RowPlace::kMemory, RowPlace::kFile}) {
    RowStore store(10, 3, place);
    EXPECT_EQ(store.in_memory(), place == RowPlace::kMemory);
    std::vector<float> buffer;
    for (uint64_t row = 0; row < 10; ++row) {
      float* at = store.Room(row, 1, buffer);
      for (uint64_t c = 0; c < 3; ++c) at[c] = static_cast<float>(10 * row + c);
      store.Put(row, 1, at);
    }
    RowStore copy(10, 3, place);
    copy.CopyFrom(store);
    float* rows = copy.Get(4, 2, buffer);
    EXPECT_EQ(rows[0], 40);
    EXPECT_EQ(rows[5], 52);
    rows[5] = 7;
    copy.Put(0, 2, rows);  // to another place
    copy.Truncate(3);
    EXPECT_EQ(copy.n_rows(), 3u);
    EXPECT_EQ(copy.Get(1, 1, buffer)[2], 7);
    EXPECT_EQ(copy.Get(2, 1, buffer)[0], 20);
    EXPECT_THROW(copy.Get(2, 2, buffer), Error);
    EXPECT_EQ(store.Get(5, 1, buffer)[2], 52);  // The copy is one.
  }
}

TEST(Perplexity, ChunksLimitTheWindows) {
  const SyntheticStore store({});
  PerplexityOptions options;
  options.context = 32;
  const Report all = Perplexity(store, SyntheticText(1000), options);
  options.chunks = 3;
  const Report some = Perplexity(store, SyntheticText(1000), options);
  EXPECT_EQ(some.windows, 3u);
  EXPECT_EQ(some.tokens, 3u * 15u);
  const std::vector<double>& nll = all.predictions.nll;
  EXPECT_EQ(some.predictions.nll, std::vector(nll.begin(), nll.begin() + 3 * 15));
}

TEST(Windows, LlamaCppProtocolByHand) {
  const SyntheticStore store({});
  PerplexityOptions options;
  options.context = 4;
  // Tokens: 1 a b c | d e f g | h (left over), where token = 3 + byte.
  const TextWindows w = CutText(store, "abcdefgh", options);
  const auto id = [](char c) { return 3 + int32_t{c}; };
  EXPECT_EQ(w.text_tokens, 9u);
  EXPECT_EQ(w.n_windows, 2u);
  EXPECT_EQ(w.scored_begin, 2u);
  EXPECT_EQ(w.n_scored, 1u);
  EXPECT_EQ(w.inputs,
            (std::vector<int32_t>{1, id('a'), id('b'), id('c'), 1, id('e'), id('f'), id('g')}));
  EXPECT_EQ(w.targets, (std::vector<int32_t>{id('c'), id('g')}));
}

TEST(Windows, PapersProtocolByHand) {
  const SyntheticStore store({});
  PerplexityOptions options;
  options.context = 4;
  options.protocol = Protocol::kPapers;
  const TextWindows w = CutText(store, "abcdefgh", options);
  const auto id = [](char c) { return 3 + int32_t{c}; };
  EXPECT_EQ(w.n_windows, 2u);
  EXPECT_EQ(w.scored_begin, 0u);
  EXPECT_EQ(w.n_scored, 3u);
  EXPECT_EQ(w.inputs, (std::vector<int32_t>{1, id('a'), id('b'), id('c'), id('d'), id('e'), id('f'),
                                            id('g')}));
  EXPECT_EQ(w.targets,
            (std::vector<int32_t>{id('a'), id('b'), id('c'), id('e'), id('f'), id('g')}));
}

TEST(Windows, RefusesWhatCannotBeMeasured) {
  SyntheticStore store({});
  PerplexityOptions options;
  const auto id_of = [&](const std::string& text) -> std::string {
    try {
      CutText(store, text, options);
    } catch (const Error& error) {
      return error.id();
    }
    return "accepted";
  };
  EXPECT_EQ(id_of(SyntheticText(1022)), "text.short");
  EXPECT_EQ(id_of(SyntheticText(1023)), "accepted");
  options.protocol = Protocol::kPapers;
  EXPECT_EQ(id_of(SyntheticText(2046)), "text.short");
  EXPECT_EQ(id_of(SyntheticText(2047)), "accepted");
  options.context = 3;
  EXPECT_EQ(id_of(SyntheticText(100)), "perplexity.context");
  options.context = 4;
  store.mutable_manifest().tokenizer.add_eos = true;
  EXPECT_EQ(id_of(SyntheticText(100)), "perplexity.add-eos");
  store.mutable_manifest().tokenizer = {};
  EXPECT_EQ(id_of(SyntheticText(100)), "tokenizer.none");
}

// The error that `action` throws, as "id: line".
std::string ErrorLine(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.id() + ": " + error.what();
  }
  return "no error";
}

TEST(Llama, FaultsOfTheModelAreNamed) {
  const auto open = [](const SyntheticStore& store) {
    return ErrorLine([&] { OpenLanguageModel(store, {}); });
  };
  const auto has = [](const std::string& line, std::initializer_list<const char*> words) {
    for (const char* word : words) {
      EXPECT_NE(line.find(word), std::string::npos) << "no \"" << word << "\" in: " << line;
    }
  };
  {
    SyntheticStore store({});
    auto& tensors = store.mutable_manifest().tensors;
    tensors.erase(tensors.begin() + static_cast<ptrdiff_t>(store.Find(TensorRole::kFfnUp, 1)));
    has(open(store), {"arch.missing-tensor", "blk.1.ffn_up.weight", "[96, 64]", "synthetic"});
  }
  {
    SyntheticStore store({});
    store.mutable_manifest().tensors[store.Find(TensorRole::kAttnK, 0)].shape = Shape{64, 32};
    has(open(store), {"arch.shape", "blk.0.attn_k.weight", "[64, 32]", "[32, 64]"});
  }
  // What has no place in the graph would silently not be computed.
  for (const char* name : {"blk.1.attn_q.bias", "output.bias", "blk.0.ffn_gate_inp.weight"}) {
    SyntheticStore store({});
    auto& tensors = store.mutable_manifest().tensors;
    tensors.push_back({name, TensorRole::kOther, std::nullopt, DType::kF32, Shape{64}});
    has(open(store), {"arch.unknown-tensor", name, "f32 [64]"});
  }
  {
    SyntheticStore store({});
    store.mutable_manifest().spec->n_layers = 1;
    has(open(store), {"arch.unknown-tensor", "blk.1.attn_norm.weight", "1 layers"});
  }
  {
    SyntheticStore store({});
    store.mutable_manifest().tensors[store.Find(TensorRole::kOutput)].dtype = DType::kI32;
    has(open(store), {"arch.dtype", "output.weight", "i32"});
  }
  {
    SyntheticStore store({});
    store.mutable_manifest().spec->n_kv_heads = 3;
    has(open(store), {"arch.spec", "4", "3"});
  }
  {
    SyntheticStore store({});
    store.mutable_manifest().spec->norm_eps = std::numeric_limits<float>::quiet_NaN();
    has(open(store), {"arch.spec", "epsilon"});
  }
  {
    SyntheticStore store({});
    store.mutable_manifest().spec->arch = "mamba";
    has(open(store), {"mamba"});
  }
  {
    SyntheticStore store({.rope_divisors = true});
    const float zero = 0;
    std::memcpy(store.bytes(store.Find(TensorRole::kRopeFreqs)).data() + 8, &zero, 4);
    has(open(store), {"arch.rope-freqs", "rope_freqs.weight"});
  }
}

TEST(Perplexity, NonFiniteLogitsAreAnErrorNotANumber) {
  for (const float poison :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    SyntheticStore store({});
    std::memcpy(store.bytes(store.Find(TensorRole::kFfnDown, 1)).data() + 40, &poison, 4);
    PerplexityOptions options;
    options.context = 16;
    const std::string line = ErrorLine([&] { Perplexity(store, SyntheticText(200), options); });
    EXPECT_NE(line.find("forward.non-finite"), std::string::npos) << line;
    EXPECT_NE(line.find("window 0, token 8"), std::string::npos) << line;
    EXPECT_NE(line.find("synthetic"), std::string::npos) << line;
  }
}

TEST(Perplexity, TokensOutsideTheEmbeddingAreRefused) {
  SyntheticStore store({});
  store.mutable_manifest().tokenizer.tokens.push_back("a");
  store.mutable_manifest().tokenizer.scores.push_back(0);
  store.mutable_manifest().tokenizer.types.push_back(TokenType::kNormal);
  PerplexityOptions options;
  options.context = 16;
  const std::string line = ErrorLine([&] { Perplexity(store, SyntheticText(400), options); });
  EXPECT_NE(line.find("forward.token"), std::string::npos) << line;
}

TEST(Perplexity, ProgressReachesTheNumberOfWindows) {
  class Counter final : public Progress {
   public:
    void Begin(std::string_view, uint64_t total, std::string_view) override { total_ = total; }
    void Advance(uint64_t n) override { done_ += n; }
    void End() override { ended_ = true; }
    uint64_t total_ = 0, done_ = 0;
    bool ended_ = false;
  };
  const SyntheticStore store({});
  Counter counter;
  PerplexityOptions options;
  options.context = 64;
  options.memory_bytes = 1 << 20;
  options.progress = &counter;
  const Report report = Perplexity(store, SyntheticText(1500), options);
  EXPECT_EQ(counter.total_, report.windows);
  EXPECT_EQ(counter.done_, report.windows);
  EXPECT_TRUE(counter.ended_);
}

}  // namespace
}  // namespace quern
