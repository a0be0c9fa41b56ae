// What a hostile checkpoint may cost: at most 64 MiB + twice its size of memory at any time, while it
// is refused or read. Every allocation of this program is counted.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "converters/hf_folder.h"
#include "converters/meta_checkpoint.h"
#include "converters/tokenizer_json.h"
#include "formats/safetensors.h"
#include "tests/converters/make_checkpoint.h"
#include "tests/converters/test_support.h"
#include "tests/formats/count_memory.h"

namespace quern {
namespace {

// Expects that reading a file of that size stays within the bound, and ends as `id` says.
void ExpectBounded(const char* what, uint64_t n_bytes, std::string_view id,
                   const std::function<void()>& read) {
  std::string found = "none";
  const size_t peak = testing::PeakOf([&] {
    try {
      read();
    } catch (const Error& error) {
      found = error.id();
    }
  });
  EXPECT_EQ(found, id) << what;
  EXPECT_LE(peak, (uint64_t{64} << 20) + 2 * n_bytes) << what << " of " << n_bytes << " bytes";
}

std::string Repeated(const std::function<std::string(int)>& piece, int n) {
  std::string text;
  for (int i = 0; i < n; ++i) text += piece(i);
  return text;
}

TEST(HostileMemory, SafetensorsOfManyTensors) {
  const std::string header =
      "{" + Repeated([](int i) {
        return fmt::format(R"("{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}},)", i);
      }, 300000) + R"("x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})";
  std::string text(8, '\0');
  StoreLE<uint64_t>(text.data(), header.size());
  text += header;
  ExpectBounded("one tensor too long", text.size(), "safetensors.truncated", [&] {
    SafetensorsFile::Open(MemoryBytes(AsBytes(text), "x"));
  });
  text += "1234";
  ExpectBounded("sound", text.size(), "none", [&] {
    SafetensorsFile::Open(MemoryBytes(AsBytes(text), "x"));
  });
}

// The text itself is counted too: in the program it is read into memory.
void ExpectTokenizer(const char* what, const std::string& text, std::string_view id) {
  ExpectBounded(what, text.size(), id, [&] {
    const std::string copy = text;
    ReadTokenizerJson(copy, "tokenizer.json");
  });
}

TEST(HostileMemory, TokenizerJson) {
  const std::string begin =
      R"({"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"model":{"vocab":{)";
  const std::string vocab =
      Repeated([](int i) { return fmt::format("\"{:x}\":{},", i, i); }, 1000000);
  ExpectTokenizer("two tokens of one id", begin + vocab + "\"zz\":5}}}", "tokenizer.id");
  ExpectTokenizer("no byte tokens", begin + vocab + "\"zz\":1000000}}}", "tokenizer.byte-missing");
  const std::string added = Repeated(
      [](int i) { return fmt::format(R"({{"id":{},"content":"{:x}","special":true}},)", i, i); },
      500000);
  ExpectTokenizer("many added tokens",
                  "{\"added_tokens\":[" + added + R"({"id":"x"}],"model":{"vocab":{"a":0}}})",
                  "config.value");
}

TEST(HostileMemory, Index) {
  const std::string index =
      "{\"weight_map\":{" +
      Repeated([](int i) { return fmt::format("\"{:x}\":\"a.safetensors\",", i); }, 500000) +
      "\"z\":\"../x\"}}";
  ExpectBounded("an index", index.size(), "index.path", [&] {
    const std::string copy = index;
    ParseWeightMap(copy, "index.json");
  });
}

// Two kilobytes that stand for millions of rows or thousands of layers, all of one storage with
// strides of 0: neither vocabulary nor layers are made for them.
std::vector<testing::FileBytes> StrideZero(uint64_t vocab_size, uint32_t n_layers) {
  constexpr uint64_t kDim = 8;
  std::vector<testing::WrittenTensor> tensors;
  const auto add = [&](const std::string& name, std::vector<uint64_t> shape) {
    tensors.push_back({.name = name,
                       .storage = 0,
                       .offset_elems = 0,
                       .shape = shape,
                       .strides = std::vector<uint64_t>(shape.size())});
  };
  add("tok_embeddings.weight", {vocab_size, kDim});
  add("norm.weight", {kDim});
  for (const char* name : {"attention.wq", "attention.wk", "attention.wv", "attention.wo",
                           "feed_forward.w1", "feed_forward.w2", "feed_forward.w3"}) {
    add("layers.0." + std::string(name) + ".weight", {kDim, kDim});
  }
  add("layers.0.attention_norm.weight", {kDim});
  add("layers.0.ffn_norm.weight", {kDim});
  const std::string params =
      fmt::format(R"({{"dim":8,"n_layers":{},"n_heads":4,"multiple_of":8,"norm_eps":1e-5}})", n_layers);
  const std::string text =
      ReadWholeFile(QUERN_SOURCE_DIR "/tests/data/stories260K/hf/tokenizer.model", 1u << 20);
  return {testing::FileBytes{"params.json", {params.begin(), params.end()}},
          testing::FileBytes{"tokenizer.model", {text.begin(), text.end()}},
          testing::FileBytes{"consolidated.00.pth",
                             testing::WriteTorchFile(
                                 {{.torch_class = "HalfStorage",
                                   .elem_bytes = 2,
                                   .bytes = std::vector<uint8_t>(2 * kDim, 0x3c)}},
                                 tensors)}};
}

TEST(HostileMemory, StridesOfZero) {
  const auto files = StrideZero(uint64_t{1} << 22, 1);
  uint64_t n_bytes = 0;
  for (const auto& file : files) n_bytes += file.bytes.size();
  ExpectBounded("rows of the embedding", n_bytes, "tokenizer.too-short",
                [&] { OpenMetaFiles(testing::InMemory(files), {}); });
  for (const uint32_t n_layers : {4096u, 65535u, 4000000000u}) {
    ExpectBounded("layers", n_bytes, n_layers == 4096 ? "meta.tensor-missing" : "config.value",
                  [&] { OpenMetaFiles(testing::InMemory(StrideZero(512, n_layers)), {}); });
  }
}

}  // namespace
}  // namespace quern
