#include "formats/gguf_metadata.h"

#include <fmt/format.h>

#include <cmath>

#include "formats/gguf_format.h"
#include "tests/formats/gguf_builder.h"
#include "tests/formats/testing.h"

namespace quern {
namespace {

using testing::ErrorOf;
using testing::ExpectError;
using testing::GgufBuilder;
using testing::InMemory;

Manifest ManifestOf(const GgufBuilder& builder) {
  const auto bytes = builder.Build();
  return GgufFile(InMemory(bytes)).manifest();
}

Manifest Again(const Manifest& manifest) {
  return ManifestFromGguf(MetadataFromManifest(manifest), manifest.tensors, "again");
}

// SmallLlama without the key, so that a test can add it with another value.
GgufBuilder LlamaWithout(std::string_view key) {
  GgufBuilder b = testing::SmallLlama();
  std::erase_if(b.keys, [&](const testing::Bytes& entry) {
    return entry.size() > 8 + key.size() &&
           std::string_view(reinterpret_cast<const char*>(&entry[8]), key.size()) == key &&
           entry[0] == key.size();
  });
  return b;
}

TEST(TensorNames, AreThoseOfTheSpecification) {
  EXPECT_EQ(TensorName(TensorRole::kTokenEmbedding), "token_embd.weight");
  EXPECT_EQ(TensorName(TensorRole::kOutputNorm), "output_norm.weight");
  EXPECT_EQ(TensorName(TensorRole::kOutput), "output.weight");
  EXPECT_EQ(TensorName(TensorRole::kRopeFreqs), "rope_freqs.weight");
  EXPECT_EQ(TensorName(TensorRole::kAttnNorm, 0), "blk.0.attn_norm.weight");
  EXPECT_EQ(TensorName(TensorRole::kAttnQ, 1), "blk.1.attn_q.weight");
  EXPECT_EQ(TensorName(TensorRole::kAttnK, 2), "blk.2.attn_k.weight");
  EXPECT_EQ(TensorName(TensorRole::kAttnV, 30), "blk.30.attn_v.weight");
  EXPECT_EQ(TensorName(TensorRole::kAttnOutput, 4), "blk.4.attn_output.weight");
  EXPECT_EQ(TensorName(TensorRole::kFfnNorm, 5), "blk.5.ffn_norm.weight");
  EXPECT_EQ(TensorName(TensorRole::kFfnGate, 6), "blk.6.ffn_gate.weight");
  EXPECT_EQ(TensorName(TensorRole::kFfnUp, 7), "blk.7.ffn_up.weight");
  EXPECT_EQ(TensorName(TensorRole::kFfnDown, 4294967295), "blk.4294967295.ffn_down.weight");
}

TEST(TensorNames, ParseBack) {
  for (size_t i = 0; i < static_cast<size_t>(TensorRole::kOther); ++i) {
    const auto role = static_cast<TensorRole>(i);
    const std::optional<uint32_t> layer =
        IsPerLayer(role) ? std::optional<uint32_t>(79) : std::nullopt;
    EXPECT_EQ(ParseTensorName(TensorName(role, layer)), (TensorRoleAndLayer{role, layer}));
  }
  for (const std::string_view other :
       {"", "weight", ".weight", "output", "output.bias", "output.weight.weight",
        "blk.0.output.weight", "attn_q.weight", "blk.attn_q.weight", "blk..attn_q.weight",
        "blk.00.attn_q.weight", "blk.-1.attn_q.weight", "blk.1.attn_q.bias",
        "blk.1.attn_qkv.weight", "blk.4294967296.attn_q.weight", "blk.99999999999.attn_q.weight",
        "blk.1.weight", "v.blk.0.attn_q.weight", "blk.0.attn_q.weight.lora_a"}) {
    EXPECT_EQ(ParseTensorName(other), TensorRoleAndLayer{}) << other;
  }
}

TEST(GgufManifest, InterpretsAWholeLlama) {
  const Manifest m = ManifestOf(testing::SmallLlama());
  EXPECT_EQ(m.name, "tiny");
  EXPECT_EQ(m.file_type, 7U);
  ASSERT_TRUE(m.spec.has_value());
  ModelSpec expected;
  expected.arch = "llama";
  expected.n_layers = 2;
  expected.n_heads = 4;
  expected.n_kv_heads = 2;
  expected.head_dim = 8;
  expected.d_model = 32;
  expected.d_ff = 64;
  expected.vocab_size = 5;
  expected.context_length = 128;
  expected.norm_eps = 1e-5F;
  expected.rope_theta = 10000;
  EXPECT_EQ(*m.spec, expected);
  EXPECT_EQ(&RequireSpec(m, "f"), &*m.spec);
  const Tokenizer& t = m.tokenizer;
  EXPECT_EQ(t.kind, Tokenizer::Kind::kSentencePiece);
  EXPECT_EQ(t.tokens[3], "\xE2\x96\x81");
  EXPECT_EQ(t.scores, (std::vector<float>{0, 0, 0, -1, -2}));
  EXPECT_EQ(t.types[0], TokenType::kUnknown);
  EXPECT_EQ(t.bos_id, 1U);
  EXPECT_EQ(t.unk_id, 0U);
  EXPECT_FALSE(t.pad_id.has_value());
  EXPECT_EQ(t.add_bos, true);
  EXPECT_FALSE(t.add_eos.has_value());
  // What is not interpreted stays, in order.
  ASSERT_EQ(m.metadata.size(), 2U);
  EXPECT_EQ(m.metadata[0], (MetadataEntry{"general.license", MetadataValue::Text("mit")}));
  EXPECT_EQ(m.metadata[1].key, "llama.tensor_data_layout");
  EXPECT_EQ(m.tensors[0].role, TensorRole::kTokenEmbedding);
  EXPECT_EQ(m.tensors[11].role, TensorRole::kAttnQ);
  EXPECT_EQ(m.tensors[11].layer, 1U);
}

TEST(GgufManifest, KeysComeInCanonicalOrder) {
  std::vector<std::string> keys;
  for (const auto& entry : MetadataFromManifest(ManifestOf(testing::SmallLlama())))
    keys.push_back(entry.key);
  EXPECT_EQ(keys, (std::vector<std::string>{"general.architecture",
                                            "general.name",
                                            "general.file_type",
                                            "general.quantization_version",
                                            "general.license",
                                            "llama.tensor_data_layout",
                                            "llama.vocab_size",
                                            "llama.context_length",
                                            "llama.embedding_length",
                                            "llama.block_count",
                                            "llama.feed_forward_length",
                                            "llama.attention.head_count",
                                            "llama.attention.head_count_kv",
                                            "llama.attention.layer_norm_rms_epsilon",
                                            "llama.rope.dimension_count",
                                            "llama.rope.freq_base",
                                            "tokenizer.ggml.model",
                                            "tokenizer.ggml.pre",
                                            "tokenizer.ggml.tokens",
                                            "tokenizer.ggml.scores",
                                            "tokenizer.ggml.token_type",
                                            "tokenizer.ggml.bos_token_id",
                                            "tokenizer.ggml.eos_token_id",
                                            "tokenizer.ggml.unknown_token_id",
                                            "tokenizer.ggml.add_bos_token"}));
}

// Every manifest that a pass can make: written and read again it is the same.
TEST(GgufManifest, WriteAndReadIsAFixpoint) {
  Manifest m = ManifestOf(testing::SmallLlama());
  EXPECT_EQ(Again(m), m);
  m.provenance = {"0.1.0", "meta", "rule: Llama 2"};
  m.name = "\"quotes\" and \xE2\x96\x81";
  m.file_type.reset();
  m.spec->head_dim = 16;  // 4 x 16 is not 32: written apart
  m.spec->rope_linear_factor = 4.0F;
  m.spec->rope_theta = 500000;
  m.spec->norm_eps = 1e-6F;
  m.tokenizer.pad_id = 4;
  m.tokenizer.eot_id = 3;
  m.tokenizer.eom_id = 2;
  m.tokenizer.fim_prefix_id = 0;
  m.tokenizer.fim_suffix_id = 1;
  m.tokenizer.fim_middle_id = 2;
  m.tokenizer.add_eos = false;
  m.tokenizer.add_space_prefix = true;
  m.tokenizer.chat_template = "{{ bomb }}";
  EXPECT_EQ(Again(m), m);
  m.tokenizer.kind = Tokenizer::Kind::kBytePair;
  m.tokenizer.pre = "llama-bpe";
  m.tokenizer.scores.clear();
  m.tokenizer.merges = {"a b", "ab c"};
  EXPECT_EQ(Again(m), m);
  m.tensors.pop_back();  // output.weight
  m.spec->tied_embeddings = true;
  EXPECT_EQ(Again(m), m);
  m.tokenizer = {};
  EXPECT_EQ(Again(m), m);
  m.tokenizer.kind = Tokenizer::Kind::kOther;
  m.tokenizer.model_name = "bert";
  EXPECT_EQ(Again(m), m);
}

TEST(GgufManifest, TypesOfKeysAreThoseLlamaCppWants) {
  Manifest m = ManifestOf(testing::SmallLlama());
  m.spec->rope_linear_factor = 2;
  m.spec->head_dim = 16;
  m.tokenizer.chat_template = "x";
  m.tokenizer.merges = {"a b"};
  m.provenance = {"1", "2", "3"};
  for (const auto& [key, value] : MetadataFromManifest(m)) {
    std::string type(NameOf(value.type));
    if (value.type == MetadataType::kArray)
      type += " " + std::string(NameOf(value.array().elem_type));
    std::string expected = "UINT32";
    for (const std::string_view text :
         {"general.architecture", "general.name", "general.license", "tensor_data_layout",
          "scaling.type", "ggml.model", "ggml.pre", "chat_template", "quern."}) {
      if (key.find(text) != std::string::npos) expected = "STRING";
    }
    for (const std::string_view number : {"epsilon", "freq_base", "scaling.factor"}) {
      if (key.find(number) != std::string::npos) expected = "FLOAT32";
    }
    if (key.find(".add_") != std::string::npos) expected = "BOOL";
    if (key.ends_with("tokens") || key.ends_with("merges")) expected = "ARRAY STRING";
    if (key.ends_with("scores")) expected = "ARRAY FLOAT32";
    if (key.ends_with("token_type")) expected = "ARRAY INT32";
    EXPECT_EQ(type, expected) << key;
  }
}

TEST(GgufManifest, ImpossibleValuesNameTheirKey) {
  const auto Refuse = [](std::string_view key, uint32_t value,
                         const std::vector<std::string>& words = {}) {
    auto all_words = words;
    all_words.emplace_back(key);
    const auto bytes = LlamaWithout(key).U32(key, value).Build();
    ExpectError([&] { GgufFile file(InMemory(bytes)); }, ErrorCode::kData, "model.value",
                all_words);
  };
  for (const std::string_view key :
       {"llama.attention.head_count", "llama.attention.head_count_kv", "llama.block_count",
        "llama.embedding_length", "llama.feed_forward_length", "llama.context_length",
        "llama.rope.dimension_count", "llama.attention.key_length", "llama.vocab_size"}) {
    Refuse(key, 0, {"found 0"});
  }
  Refuse("llama.attention.head_count_kv", 3, {"a divisor of 4"});
  Refuse("llama.embedding_length", 33, {"a multiple of 4"});
  Refuse("llama.block_count", 65537, {"65537"});
  Refuse("llama.rope.dimension_count", 4, {"expected 8"});
  Refuse("llama.attention.key_length", 0x40000000);
  Refuse("llama.vocab_size", 0x80000000);
  for (const float bad : {-1.0F, NAN, INFINITY}) {
    const auto bytes = LlamaWithout("llama.attention.layer_norm_rms_epsilon")
                           .F32("llama.attention.layer_norm_rms_epsilon", bad)
                           .Build();
    ExpectError([&] { GgufFile file(InMemory(bytes)); }, ErrorCode::kData, "model.value",
                {"epsilon"});
  }
  for (const float bad : {0.0F, -10000.0F, NAN}) {
    const auto bytes = testing::SmallLlama().F32("llama.rope.freq_base", bad).Build();
    ExpectError([&] { GgufFile file(InMemory(bytes)); }, ErrorCode::kData, "model.value",
                {"llama.rope.freq_base"});
  }
}

TEST(GgufManifest, OddHeadsAreRefused) {
  auto b = LlamaWithout("llama.rope.dimension_count");
  b.U32("llama.attention.key_length", 7);
  const auto bytes = b.Build();
  ExpectError([&] { GgufFile file(InMemory(bytes)); }, ErrorCode::kData, "model.value", {"odd"});
}

TEST(GgufManifest, WrongTypesNameTheirKey) {
  const auto Refuse = [](GgufBuilder b, std::string_view key, std::string_view found) {
    const auto bytes = b.Build();
    ExpectError([&] { GgufFile file(InMemory(bytes)); }, ErrorCode::kData, "gguf.key-type",
                {std::string(key), std::string(found)});
  };
  constexpr std::string_view kContext = "llama.context_length";
  Refuse(LlamaWithout(kContext).Key(kContext, 5, int32_t{128}), kContext, "INT32");
  Refuse(LlamaWithout(kContext).Key(kContext, 10, uint64_t{128}), kContext, "UINT64");
  Refuse(LlamaWithout(kContext).Text(kContext, "128"), kContext, "STRING");
  Refuse(LlamaWithout(kContext).Array<float>(kContext, 6, {128}), kContext, "ARRAY");
  Refuse(LlamaWithout("general.name").U32("general.name", 1), "general.name", "UINT32");
  Refuse(LlamaWithout("general.architecture").U32("general.architecture", 1),
         "general.architecture", "UINT32");
  Refuse(LlamaWithout("tokenizer.ggml.tokens").Array<float>("tokenizer.ggml.tokens", 6, {1}),
         "tokenizer.ggml.tokens", "ARRAY");
  Refuse(testing::SmallLlama().U32("tokenizer.chat_template", 1), "tokenizer.chat_template",
         "UINT32");
  Refuse(testing::SmallLlama().U32("quern.version", 1), "quern.version", "UINT32");
  Refuse(LlamaWithout("tokenizer.ggml.add_bos_token").U32("tokenizer.ggml.add_bos_token", 1),
         "tokenizer.ggml.add_bos_token", "UINT32");
}

TEST(GgufManifest, VocabulariesMustHoldTogether) {
  const auto Refuse = [](GgufBuilder b, std::string_view id,
                         const std::vector<std::string>& words) {
    const auto bytes = b.Build();
    ExpectError([&] { GgufFile file(InMemory(bytes)); }, ErrorCode::kData, id, words);
  };
  Refuse(
      LlamaWithout("tokenizer.ggml.scores").Array<float>("tokenizer.ggml.scores", 6, {0, 0, 0, 0}),
      "tokenizer.length", {"tokenizer.ggml.scores", "found 4", "expected 5"});
  Refuse(
      LlamaWithout("tokenizer.ggml.token_type").Array<int32_t>("tokenizer.ggml.token_type", 5, {1}),
      "tokenizer.length", {"tokenizer.ggml.token_type"});
  Refuse(LlamaWithout("tokenizer.ggml.scores")
             .Array<float>("tokenizer.ggml.scores", 6, {0, 0, NAN, 0, 0}),
         "tokenizer.score", {"token 2"});
  Refuse(LlamaWithout("tokenizer.ggml.token_type")
             .Array<int32_t>("tokenizer.ggml.token_type", 5, {1, 1, 1, 7, 1}),
         "tokenizer.token-type", {"7 at token 3"});
}

TEST(GgufManifest, IdsBeyondTheVocabularyMeanNone) {
  auto b = testing::SmallLlama();
  b.U32("tokenizer.ggml.padding_token_id", 0xFFFFFFFF).U32("tokenizer.ggml.eot_token_id", 5);
  b.U32("tokenizer.ggml.prefix_token_id", 3);
  const Manifest m = ManifestOf(b);
  EXPECT_FALSE(m.tokenizer.pad_id.has_value());
  EXPECT_FALSE(m.tokenizer.eot_id.has_value());
  EXPECT_EQ(m.tokenizer.fim_prefix_id, 3U);
  ASSERT_EQ(m.metadata.size(), 4U);
  EXPECT_EQ(m.metadata[2].key, "tokenizer.ggml.padding_token_id");
  EXPECT_EQ(m.metadata[3].key, "tokenizer.ggml.eot_token_id");
  EXPECT_EQ(Again(m), m);
}

TEST(GgufManifest, FilesThatAreNoModelStayWhole) {
  using enum ErrorCode;
  const auto Expect = [](GgufBuilder b, ErrorCode code, std::string_view id,
                         const std::vector<std::string>& words) {
    const Manifest m = ManifestOf(b);
    EXPECT_FALSE(m.spec.has_value());
    EXPECT_EQ(Again(m), m);
    ExpectError([&] { RequireSpec(m, "FILE"); }, code, id, words);
  };
  Expect(GgufBuilder(), kData, "model.missing-key", {"FILE", "general.architecture"});
  Expect(GgufBuilder().Text("general.architecture", "gptneox").U32("gptneox.block_count", 0),
         kUnsupported, "model.architecture", {"'gptneox'", "'llama'"});
  for (const std::string_view key :
       {"llama.context_length", "llama.embedding_length", "llama.block_count",
        "llama.feed_forward_length", "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon"}) {
    Expect(LlamaWithout(key), kData, "model.missing-key", {std::string(key)});
  }
  Expect(testing::SmallLlama().U32("llama.expert_count", 8), kUnsupported, "model.feature",
         {"llama.expert_count"});
  Expect(testing::SmallLlama().Text("llama.rope.scaling.type", "yarn"), kUnsupported,
         "model.feature", {"yarn"});
  Expect(testing::SmallLlama().U32("llama.attention.value_length", 16), kUnsupported,
         "model.feature", {"value_length"});
  Expect(LlamaWithout("llama.feed_forward_length")
             .Array<uint32_t>("llama.feed_forward_length", 4, {64, 32}),
         kUnsupported, "model.feature", {"llama.feed_forward_length"});
}

TEST(GgufManifest, ReadsWhatOlderAndOtherWritersLeave) {
  // Per-layer arrays whose layers agree; scaling under its old name; a factor of zero.
  auto b = LlamaWithout("llama.feed_forward_length");
  b.Array<int32_t>("llama.feed_forward_length", 5, {64, 64}).F32("llama.rope.scale_linear", 2);
  Manifest m = ManifestOf(b);
  ASSERT_TRUE(m.spec.has_value());
  EXPECT_EQ(m.spec->d_ff, 64U);
  EXPECT_EQ(m.spec->rope_linear_factor, 2.0F);
  EXPECT_EQ(Again(m), m);
  m = ManifestOf(testing::SmallLlama()
                     .F32("llama.rope.scaling.factor", 0)
                     .Text("llama.rope.scaling.type", "linear"));
  EXPECT_FALSE(m.spec->rope_linear_factor.has_value());
  m = ManifestOf(testing::SmallLlama()
                     .F32("llama.rope.scaling.factor", 8)
                     .Text("llama.rope.scaling.type", "none"));
  EXPECT_FALSE(m.spec->rope_linear_factor.has_value());
  EXPECT_EQ(Again(m), m);
  // Without head_count_kv every head has its own keys.
  m = ManifestOf(LlamaWithout("llama.attention.head_count_kv"));
  EXPECT_EQ(m.spec->n_kv_heads, 4U);
}

TEST(GgufManifest, TheVocabularySizeIsThatOfTheMatrix) {
  Manifest m = ManifestOf(testing::SmallLlama().U32("llama.vocab_size", 32000));
  EXPECT_EQ(m.spec->vocab_size, 5U);
  auto b = testing::SmallLlama();
  b.infos.clear();
  b.data.clear();
  EXPECT_EQ(ManifestOf(b).spec->vocab_size, 5U);  // of the tokens
  b = LlamaWithout("tokenizer.ggml.tokens");
  b.infos.clear();
  b.data.clear();
  EXPECT_FALSE(ManifestOf(b).spec.has_value());
  EXPECT_EQ(ManifestOf(b).tokenizer.kind, Tokenizer::Kind::kOther);
  EXPECT_EQ(ManifestOf(b.U32("llama.vocab_size", 77)).spec->vocab_size, 77U);
}

TEST(GgufManifest, UnknownQuantizationVersionsAreRefusedWhereTheyMatter) {
  const auto bytes =
      LlamaWithout("general.quantization_version").U32("general.quantization_version", 3).Build();
  ExpectError([&] { GgufFile file(InMemory(bytes)); }, ErrorCode::kUnsupported,
              "gguf.quantization-version", {"found 3"});
  GgufBuilder plain;
  plain.U32("general.quantization_version", 3).Tensor("t", {1}, 0, testing::Pattern(4));
  EXPECT_TRUE(MetadataFromManifest(ManifestOf(plain)).empty());
}

TEST(GgufManifest, AlignmentIsKeptAndTheDefaultIsNotWritten) {
  const Manifest plain = ManifestOf(testing::SmallLlama(1, 32));
  Manifest aligned = ManifestOf(testing::SmallLlama(3, 64));
  EXPECT_EQ(aligned.alignment, 64U);
  const auto find = [](const Manifest& m) -> std::optional<MetadataValue> {
    for (const MetadataEntry& entry : MetadataFromManifest(m)) {
      if (entry.key == "general.alignment") return entry.value;
    }
    return std::nullopt;
  };
  EXPECT_EQ(find(aligned), MetadataValue::U32(64));
  EXPECT_EQ(find(plain), std::nullopt);
  aligned.alignment = 32;
  EXPECT_EQ(aligned, plain);
  // A file may state the default: it means nothing more.
  EXPECT_EQ(ManifestOf(testing::SmallLlama().U32("general.alignment", 32)), plain);
}

TEST(GgufManifest, AKeyThatWouldAppearTwiceIsABug) {
  Manifest m = ManifestOf(testing::SmallLlama());
  m.metadata.push_back({"llama.block_count", MetadataValue::U32(2)});
  EXPECT_EQ(ErrorOf([&] { MetadataFromManifest(m); })->code(), ErrorCode::kBug);
}

}  // namespace
}  // namespace quern
