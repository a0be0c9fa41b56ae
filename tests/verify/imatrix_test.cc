#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "formats/core/error.h"
#include "tests/verify/synthetic_model.h"
#include "verify/imatrix_collect.h"
#include "verify/imatrix_statistics.h"

namespace quern {
namespace {

constexpr uint64_t kContext = 32;

ImatrixOptions Options() {
  ImatrixOptions options;
  options.context = kContext;
  options.forward.portable_product = true;
  return options;
}

std::map<std::string, ImatrixEntry> ByName(const Imatrix& imatrix) {
  std::map<std::string, ImatrixEntry> entries;
  for (const ImatrixEntry& entry : imatrix.entries) entries.emplace(entry.name, entry);
  return entries;
}

CollectedImatrix Collect(const TensorStore& store, const std::string& text,
                         const ImatrixOptions& options = Options()) {
  const CalibrationText texts[] = {{"text.txt", text}};
  return CollectImatrix(store, texts, options);
}

std::vector<float> RowOf(const SyntheticStore& store, size_t tensor, uint64_t row) {
  const TensorInfo& info = store.manifest().tensors[tensor];
  std::vector<uint8_t> bytes(info.row_bytes());
  store.ReadRows(tensor, row, 1, bytes);
  std::vector<float> values(info.cols());
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

// The first layer's q, k and v see normed rows of the embedding: computed here by hand.
TEST(ImatrixCollect, TheFirstLayersInputsAreNormedEmbeddings) {
  const SyntheticStore store(SyntheticSpec{});
  const std::string text = SyntheticText(4 * kContext);
  const CollectedImatrix collected = Collect(store, text);
  const uint64_t n_windows = (text.size() + 1) / kContext;  // with <s> before the text
  EXPECT_EQ(collected.windows, n_windows);
  EXPECT_EQ(collected.text_windows, n_windows);

  const std::vector<float> norm = RowOf(store, store.Find(TensorRole::kAttnNorm, 0), 0);
  std::vector<double> expected(norm.size());
  for (uint64_t i = 0; i < n_windows * kContext; ++i) {
    const bool begins = i % kContext == 0;  // <s> stands there
    const uint64_t token = begins ? 1 : 3 + static_cast<uint8_t>(text[i - 1]);
    const std::vector<float> x = RowOf(store, store.Find(TensorRole::kTokenEmbedding), token);
    double square = 0;
    for (const float value : x) square += double{value} * double{value};
    const double scale = 1 / std::sqrt(square / static_cast<double>(x.size()) +
                                       double{store.manifest().spec->norm_eps});
    for (size_t c = 0; c < x.size(); ++c) {
      expected[c] += std::pow(double{x[c]} * scale * double{norm[c]}, 2);
    }
  }
  const auto entries = ByName(collected.imatrix);
  const ImatrixEntry& q = entries.at("blk.0.attn_q.weight");
  ASSERT_EQ(q.values.size(), expected.size());
  EXPECT_EQ(q.count, n_windows * kContext);
  for (size_t c = 0; c < expected.size(); ++c) {
    const double mean = expected[c] / static_cast<double>(n_windows * kContext);
    EXPECT_NEAR(double{q.values[c]}, mean, 1e-5 * mean) << c;
  }
}

TEST(ImatrixCollect, EveryMatrixOfEveryLayerHasAnEntryOfItsWidth) {
  const SyntheticSpec spec;
  const SyntheticStore store(spec);
  const CollectedImatrix collected = Collect(store, SyntheticText(200));
  const auto entries = ByName(collected.imatrix);
  EXPECT_EQ(entries.size(), 7 * spec.n_layers);
  for (const TensorInfo& tensor : store.manifest().tensors) {
    if (!tensor.layer || tensor.shape.rank() < 2) continue;
    ASSERT_TRUE(entries.contains(tensor.name)) << tensor.name;
    EXPECT_EQ(entries.at(tensor.name).values.size(), tensor.cols()) << tensor.name;
    EXPECT_FALSE(entries.at(tensor.name).all_zero) << tensor.name;
    EXPECT_EQ(entries.at(tensor.name).count, collected.windows * kContext);
  }
  for (const std::string layer : {"blk.0.", "blk.1."}) {
    EXPECT_EQ(entries.at(layer + "attn_q.weight").values,
              entries.at(layer + "attn_v.weight").values);
    EXPECT_EQ(entries.at(layer + "attn_q.weight").values,
              entries.at(layer + "attn_k.weight").values);
    EXPECT_EQ(entries.at(layer + "ffn_up.weight").values,
              entries.at(layer + "ffn_gate.weight").values);
    EXPECT_NE(entries.at(layer + "attn_q.weight").values,
              entries.at(layer + "ffn_up.weight").values);
  }
  EXPECT_EQ(collected.imatrix.datasets, (StringList{"text.txt"}));
  EXPECT_EQ(collected.imatrix.chunk_size, kContext);
}

TEST(ImatrixCollect, TheVocabularysMatrixOnlyOnRequestAndNeverTheEmbedding) {
  ImatrixOptions options = Options();
  options.output_matrix = true;
  EXPECT_TRUE(ByName(Collect(SyntheticStore(SyntheticSpec{}), SyntheticText(200), options).imatrix)
                  .contains("output.weight"));
  const SyntheticStore tied(SyntheticSpec{.tied_embeddings = true});
  for (const auto& [name, entry] : ByName(Collect(tied, SyntheticText(200), options).imatrix)) {
    EXPECT_TRUE(name.starts_with("blk.")) << name;
  }
}

TEST(ImatrixCollect, TheSameBitsForAnyThreadsAndMemory) {
  const SyntheticStore store(SyntheticSpec{});
  const std::string text = SyntheticText(500);
  const auto expected = ByName(Collect(store, text).imatrix);
  for (const unsigned threads : {1u, 3u}) {
    ImatrixOptions options = Options();
    options.threads = threads;
    options.memory_bytes = threads == 1 ? uint64_t{400} << 10 : options.memory_bytes;
    const auto found = ByName(Collect(store, text, options).imatrix);
    for (const auto& [name, entry] : expected)
      EXPECT_EQ(found.at(name).values, entry.values) << name;
  }
}

TEST(ImatrixCollect, SeveralTextsAreAddedUp) {
  const SyntheticStore store(SyntheticSpec{});
  const std::string a = SyntheticText(200), b = SyntheticText(90);
  const CalibrationText both[] = {{"a", a}, {"b", b}};
  const CollectedImatrix together = CollectImatrix(store, both, Options());
  const CollectedImatrix one = Collect(store, a), two = Collect(store, b);
  EXPECT_EQ(together.windows, one.windows + two.windows);
  EXPECT_EQ(together.imatrix.datasets, (StringList{"a", "b"}));
  ImatrixOptions some = Options();  // Texts without an evaluated window are not named.
  some.chunks = 1;
  EXPECT_EQ(CollectImatrix(store, both, some).imatrix.datasets, (StringList{"a"}));
  some.stop = [] { return true; };
  EXPECT_TRUE(CollectImatrix(store, both, some).imatrix.datasets.empty());
  const auto sum = ByName(together.imatrix), x = ByName(one.imatrix), y = ByName(two.imatrix);
  for (const auto& [name, entry] : sum) {
    for (size_t c = 0; c < entry.values.size(); ++c) {
      const double mean = (double{x.at(name).values[c]} * double(one.windows) +
                           double{y.at(name).values[c]} * double(two.windows)) /
                          double(together.windows);
      EXPECT_NEAR(double{entry.values[c]}, mean, 1e-6 * mean) << name;
    }
  }
}

// Groups are of 4,096 tokens: stopped in the second, the first is what is left, untouched.
TEST(ImatrixCollect, WhatWasCollectedIsKept) {
  const SyntheticSpec spec;
  const SyntheticStore store(spec);
  const std::string text = SyntheticText(3 * 4096);
  ImatrixOptions options = Options();
  options.chunks = 4096 / kContext;
  const auto first_group = ByName(Collect(store, text, options).imatrix);
  options.chunks = 0;
  // Asked before each group and behind each layer: this is behind the second group's first layer.
  options.stop = [n_asked = 0u, &spec]() mutable { return ++n_asked > spec.n_layers + 2; };
  const CollectedImatrix stopped = Collect(store, text, options);
  EXPECT_EQ(stopped.windows, 4096 / kContext);
  EXPECT_EQ(stopped.text_windows, 3 * 4096 / kContext);
  EXPECT_EQ(stopped.imatrix.n_chunks, 4096 / kContext);
  const auto entries = ByName(stopped.imatrix);
  ASSERT_EQ(entries.size(), first_group.size());
  for (const auto& [name, entry] : first_group) {
    EXPECT_EQ(entries.at(name).values, entry.values) << name;
    EXPECT_EQ(entries.at(name).count, 4096u) << name;
  }
  options.stop = [] { return true; };
  EXPECT_TRUE(Collect(store, text, options).imatrix.entries.empty());
}

TEST(ImatrixCollect, ShortTextsAreRefusedByName) {
  try {
    Collect(SyntheticStore(SyntheticSpec{}), "short");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "text.short");
    EXPECT_NE(std::string(error.what()).find("text.txt"), std::string::npos) << error.what();
  }
}

TEST(ImatrixStatistics, ByHand) {
  Imatrix imatrix;
  const auto add = [&](const std::string& name, std::vector<float> values) {
    imatrix.entries.emplace_back();
    imatrix.entries.back().name = name;
    imatrix.entries.back().values = std::move(values);
  };
  add("blk.0.ffn_up.weight", {4, 0, 0, 0});
  add("blk.1.ffn_up.weight", {1, 1, 1, 1});
  add("blk.1.ffn_down.weight", {0, 0});
  add("blk.10.ffn_up.weight", {1, 2, 3, 1e-6f});
  const std::vector<ImatrixStatistics> all = StatisticsOf(imatrix);
  ASSERT_EQ(all.size(), 4u);
  const ImatrixStatistics& spike = all[0];
  EXPECT_EQ(spike.n_values, 4u);
  EXPECT_DOUBLE_EQ(spike.sum, 4);
  EXPECT_DOUBLE_EQ(spike.minimum, 0);
  EXPECT_DOUBLE_EQ(spike.maximum, 4);
  EXPECT_DOUBLE_EQ(spike.mean, 1);
  EXPECT_DOUBLE_EQ(spike.deviation, std::sqrt(3.0));  // (9 + 1 + 1 + 1) / 4
  EXPECT_DOUBLE_EQ(spike.active, 0.25);
  EXPECT_DOUBLE_EQ(spike.entropy_bits, 0);
  EXPECT_DOUBLE_EQ(spike.outliers, 0.25);  // 3 > sqrt(3)
  EXPECT_FALSE(spike.cosine_to_previous.has_value());
  EXPECT_DOUBLE_EQ(all[1].entropy_bits, 2);
  EXPECT_DOUBLE_EQ(all[1].relative_entropy, 1);
  EXPECT_DOUBLE_EQ(all[1].outliers, 0);
  EXPECT_DOUBLE_EQ(*all[1].cosine_to_previous, 0.5);
  EXPECT_DOUBLE_EQ(all[2].relative_entropy, 0);
  EXPECT_DOUBLE_EQ(all[3].active, 0.75);
  EXPECT_FALSE(all[3].cosine_to_previous.has_value());  // There is no layer 9.
}

}  // namespace
}  // namespace quern
