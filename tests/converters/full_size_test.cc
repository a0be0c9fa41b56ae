// The releases in their full sizes and numbers of shards. Every tensor has the shape of the release
// and is one number, stored once and read with strides of 0; vocabularies have the right number of
// tokens.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tests/converters/make_checkpoint.h"
#include "tests/converters/test_support.h"

namespace quern {
namespace {

struct Release {
  const char* name;
  const char* params;  // params.json
  uint32_t n_shards;
  const char* torch_class;
  // What must come out.
  uint32_t n_kv_heads, head_dim, d_ff, vocab_size, context_length;
  float rope_theta;
  float rope_divisor;  // of the slowest rotation; 0: no scaling
  bool tied = false;
};
void PrintTo(const Release& release, std::ostream* out) { *out << release.name; }

// Source: params.json of the releases; Meta's list of models for those that are gated.
const Release kReleases[] = {
    {"Llama1_7B",
     R"({"dim":4096,"multiple_of":256,"n_heads":32,"n_layers":32,"norm_eps":1e-06,"vocab_size":-1})",
     1, "HalfStorage", 32, 128, 11008, 32000, 2048, 1e4f, 0},
    {"Llama1_65B",
     R"({"dim":8192,"multiple_of":256,"n_heads":64,"n_layers":80,"norm_eps":1e-05,"vocab_size":-1})",
     8, "HalfStorage", 64, 128, 22016, 32000, 2048, 1e4f, 0},
    {"Llama2_70B",
     R"({"dim":8192,"multiple_of":4096,"ffn_dim_multiplier":1.3,"n_heads":64,"n_kv_heads":8,"n_layers":80,"norm_eps":1e-05,"vocab_size":-1})",
     8, "BFloat16Storage", 8, 128, 28672, 32000, 4096, 1e4f, 0},
    {"CodeLlama_34B",
     R"({"dim":8192,"n_layers":48,"n_heads":64,"n_kv_heads":8,"multiple_of":256,"ffn_dim_multiplier":1.0,"norm_eps":1e-5,"rope_theta":1000000})",
     4, "BFloat16Storage", 8, 128, 22016, 32000, 16384, 1e6f, 0},
    {"Llama3_8B",
     R"({"dim":4096,"n_layers":32,"n_heads":32,"n_kv_heads":8,"vocab_size":128256,"multiple_of":1024,"ffn_dim_multiplier":1.3,"norm_eps":1e-05,"rope_theta":500000.0})",
     1, "BFloat16Storage", 8, 128, 14336, 128256, 8192, 5e5f, 0},
    {"Llama31_405B_MP8",
     R"({"dim":16384,"n_layers":126,"n_heads":128,"n_kv_heads":8,"vocab_size":128256,"multiple_of":4096,"ffn_dim_multiplier":1.2,"norm_eps":1e-05,"rope_theta":500000.0,"use_scaled_rope":true})",
     8, "BFloat16Storage", 8, 128, 53248, 128256, 131072, 5e5f, 8},
    // 16 shards store each of the 8 KV heads twice.
    {"Llama31_405B_MP16",
     R"({"dim":16384,"n_layers":126,"n_heads":128,"n_kv_heads":16,"vocab_size":128256,"multiple_of":4096,"ffn_dim_multiplier":1.2,"norm_eps":1e-05,"rope_theta":500000.0,"use_scaled_rope":true})",
     16, "BFloat16Storage", 16, 128, 53248, 128256, 131072, 5e5f, 8},
    {"Llama32_1B",
     R"({"dim":2048,"n_layers":16,"n_heads":32,"n_kv_heads":8,"vocab_size":128256,"ffn_dim_multiplier":1.5,"multiple_of":256,"norm_eps":1e-05,"rope_theta":500000.0,"use_scaled_rope":true})",
     1, "BFloat16Storage", 8, 64, 8192, 128256, 131072, 5e5f, 32, true},
    {"Llama32_3B",
     R"({"dim":3072,"n_layers":28,"n_heads":24,"n_kv_heads":8,"vocab_size":128256,"ffn_dim_multiplier":1.0,"multiple_of":256,"norm_eps":1e-05,"rope_theta":500000.0,"use_scaled_rope":true})",
     1, "BFloat16Storage", 8, 128, 8192, 128256, 131072, 5e5f, 32, true},
    {"Llama33_70B",
     R"({"dim":8192,"n_layers":80,"n_heads":64,"n_kv_heads":8,"vocab_size":128256,"multiple_of":4096,"ffn_dim_multiplier":1.3,"norm_eps":1e-05,"rope_theta":500000.0,"use_scaled_rope":true})",
     8, "BFloat16Storage", 8, 128, 28672, 128256, 131072, 5e5f, 8},
};

uint32_t Member(const std::string& params, const std::string& key) {
  const size_t at = params.find("\"" + key + "\":");
  return static_cast<uint32_t>(std::stoul(params.substr(at + key.size() + 3)));
}

bool HasTiktoken(const Release& release) { return release.vocab_size > 100000; }

// A file of SparseFile's kind.
class SparseBytes final : public RandomAccessBytes {
 public:
  SparseBytes(testing::SparseFile file, std::string name)
      : file_(std::move(file)), name_(std::move(name)) {
    size_bytes_ = file_.bytes.size();
    for (const auto& hole : file_.holes) size_bytes_ += hole.n_zeros;
  }
  uint64_t size_bytes() const override { return size_bytes_; }
  const std::string& name() const override { return name_; }
  void ReadAt(uint64_t offset, MutableByteView out) const override {
    ASSERT_LE(out.size(), size_bytes_ - offset);
    std::ranges::fill(out, 0);
    uint64_t stored = 0, place = 0;  // of the next run, among the stored bytes and in the file
    for (size_t i = 0; i <= file_.holes.size(); ++i) {
      const uint64_t end = i < file_.holes.size() ? file_.holes[i].at : file_.bytes.size();
      const uint64_t from = std::max(offset, place);
      const uint64_t to = std::min(offset + out.size(), place + end - stored);
      if (from < to) {
        std::memcpy(&out[from - offset], &file_.bytes[stored + from - place], to - from);
      }
      place += end - stored;
      stored = end;
      if (i < file_.holes.size()) place += file_.holes[i].n_zeros;
    }
  }

 private:
  testing::SparseFile file_;
  std::string name_;
  uint64_t size_bytes_;
};

uint8_t MarkOf(uint32_t rank) { return static_cast<uint8_t>(2 + rank); }

testing::SparseFile Shard(const Release& release, uint32_t rank) {
  const uint64_t dim = Member(release.params, "dim"), n = release.n_shards;
  const uint64_t kv = uint64_t{release.n_kv_heads} * release.head_dim;
  // Tensors share the numbers of two storages: what is read may be many times what is stored, not
  // any number of times.
  enum Storage : size_t { kNorms, kAttention, kOthers };
  constexpr uint64_t kStorageBytes = 0xf0000000;
  std::vector<testing::WrittenStorage> storages;
  const auto add_storage = [&](uint8_t mark, uint64_t n_zeros) {
    storages.push_back({.torch_class = release.torch_class,
                        .elem_bytes = 2,
                        .bytes = {mark, 0x3c},
                        .n_zeros = n_zeros});
  };
  add_storage(1, 2 * dim - 2);
  add_storage(MarkOf(rank), kStorageBytes - 2);
  add_storage(MarkOf(rank), kStorageBytes - 2);
  std::vector<testing::WrittenTensor> tensors;
  const auto add = [&](const std::string& name, Storage storage, std::vector<uint64_t> shape) {
    const std::vector<uint64_t> strides =
        shape.size() == 2 ? std::vector<uint64_t>{shape[1], 1} : std::vector<uint64_t>{1};
    // The output matrix is none of the embedding.
    tensors.push_back({.name = name + ".weight",
                       .storage = storage,
                       .offset_elems = name == "output" ? 1u : 0u,
                       .shape = shape,
                       .strides = strides});
  };
  const bool by_rows = HasTiktoken(release);
  const uint64_t vocab = release.vocab_size;
  add("tok_embeddings", kOthers, {by_rows ? vocab / n : vocab, by_rows ? dim : dim / n});
  for (uint32_t i = 0; i < Member(release.params, "n_layers"); ++i) {
    const std::string layer = fmt::format("layers.{}.", i);
    add(layer + "attention.wq", kAttention, {dim / n, dim});
    add(layer + "attention.wk", kAttention, {kv / n, dim});
    add(layer + "attention.wv", kAttention, {kv / n, dim});
    add(layer + "attention.wo", kAttention, {dim, dim / n});
    add(layer + "feed_forward.w1", kOthers, {release.d_ff / n, dim});
    add(layer + "feed_forward.w2", kOthers, {dim, release.d_ff / n});
    add(layer + "feed_forward.w3", kOthers, {release.d_ff / n, dim});
    add(layer + "attention_norm", kNorms, {dim});
    add(layer + "ffn_norm", kNorms, {dim});
  }
  add("norm", kNorms, {dim});
  if (!release.tied) add("output", kOthers, {vocab / n, dim});
  testing::TorchFileStyle style;
  style.archive = fmt::format("consolidated.{:02}", rank);
  style.sums = false;
  return testing::WriteSparseTorchFile(storages, tensors, style);
}

std::vector<uint8_t> Vocabulary(const Release& release) {
  if (!HasTiktoken(release)) {
    std::vector<std::string> pieces(release.vocab_size - 259);
    for (size_t i = 0; i < pieces.size(); ++i) pieces[i] = fmt::format("{:05x}", i);
    return testing::MakeSentencePieceModel(pieces);
  }
  std::vector<std::string> tokens(release.vocab_size - 512);  // without bytes and special ones
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = fmt::format("{:05x}", i);
  return testing::MakeTiktokenRanks(tokens);
}

class FullSize : public ::testing::TestWithParam<Release> {};

TEST_P(FullSize, IsReadAsTheRelease) {
  const Release& want = GetParam();
  const std::string params = want.params;
  std::vector<testing::FileBytes> files = {{"params.json", {params.begin(), params.end()}},
                                           {"tokenizer.model", Vocabulary(want)}};
  MetaFiles meta = testing::InMemory(files);
  for (uint32_t rank = 0; rank < want.n_shards; ++rank) {
    const std::string name = fmt::format("consolidated.{:02}.pth", rank);
    meta.shards.push_back(std::make_shared<SparseBytes>(Shard(want, rank), name));
  }
  const auto store = OpenMetaFiles(std::move(meta), {});
  const Manifest& manifest = store->manifest();
  const ModelSpec& spec = *manifest.spec;
  EXPECT_EQ(spec.d_model, Member(params, "dim"));
  EXPECT_EQ(spec.n_layers, Member(params, "n_layers"));
  EXPECT_EQ(spec.n_heads, Member(params, "n_heads"));
  EXPECT_EQ(spec.n_kv_heads, want.n_kv_heads);
  EXPECT_EQ(spec.head_dim, want.head_dim);
  EXPECT_EQ(spec.d_ff, want.d_ff);
  EXPECT_EQ(spec.vocab_size, want.vocab_size);
  EXPECT_EQ(manifest.tokenizer.tokens.size(), want.vocab_size);
  EXPECT_EQ(spec.context_length, want.context_length);
  EXPECT_EQ(spec.rope_theta, want.rope_theta);
  EXPECT_EQ(spec.tied_embeddings, want.tied);
  const bool scaled = want.rope_divisor != 0;
  EXPECT_EQ(manifest.tensors.size(), 2u + 9 * spec.n_layers + !want.tied + scaled);
  // Shards follow each other in the order of their numbers.
  const TensorInfo& w1 = manifest.tensors[7];
  ASSERT_EQ(w1.name, "blk.0.ffn_gate.weight");
  EXPECT_EQ(w1.shape, (Shape{want.d_ff, spec.d_model}));
  std::vector<uint8_t> row(w1.row_bytes());
  for (uint32_t rank = 0; rank < want.n_shards; ++rank) {
    store->ReadRows(7, uint64_t{rank} * (want.d_ff / want.n_shards), 1, row);
    EXPECT_EQ(row[0], MarkOf(rank));
  }
  const TensorInfo& last = manifest.tensors.back();
  ASSERT_EQ(last.role == TensorRole::kRopeFreqs, scaled);
  if (!scaled) return;
  EXPECT_EQ(last.shape, Shape{want.head_dim / 2});
  const auto divisors = testing::ReadAll(*store, manifest.tensors.size() - 1, 1);
  EXPECT_EQ(LoadLE<float>(divisors.data()), 1.0f);
  EXPECT_EQ(LoadLE<float>(&divisors[divisors.size() - sizeof(float)]), want.rope_divisor);
}

INSTANTIATE_TEST_SUITE_P(Releases, FullSize, ::testing::ValuesIn(kReleases),
                         [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace quern
