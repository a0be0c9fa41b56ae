#include "formats/model_tensors.h"

#include <algorithm>
#include <functional>

#include "formats/gguf_metadata.h"
#include "formats/gguf_reader.h"
#include "tests/formats/gguf_builder.h"
#include "tests/formats/testing.h"

namespace quern {
namespace {

// Returns what is found in a model that `change` made worse, "severity id: line" each.
std::vector<std::string> Findings(const std::function<void(Manifest&)>& change) {
  const auto bytes = testing::SmallLlama().Build();
  Manifest manifest = GgufFile(testing::InMemory(bytes)).manifest();
  change(manifest);
  std::vector<std::string> lines;
  for (const Finding& finding : CheckModelTensors(manifest, "m.gguf")) {
    const char* severity = finding.severity == Finding::Severity::kError     ? "error "
                           : finding.severity == Finding::Severity::kWarning ? "warning "
                                                                             : "note ";
    lines.push_back(severity + finding.id + ": " + finding.line);
  }
  return lines;
}

void ExpectOne(const std::function<void(Manifest&)>& change, std::string_view begin,
               const std::vector<std::string>& words) {
  const auto lines = Findings(change);
  ASSERT_EQ(lines.size(), 1U) << begin;
  EXPECT_TRUE(lines[0].starts_with(begin)) << lines[0];
  for (const std::string& word : words) {
    EXPECT_NE(lines[0].find(word), std::string::npos) << "no " << word << " in " << lines[0];
  }
}

void Erase(Manifest& m, std::string_view name) {
  std::erase_if(m.tensors, [&](const TensorInfo& tensor) { return tensor.name == name; });
}

TEST(ModelTensors, AWholeModelIsSound) {
  EXPECT_EQ(Findings([](Manifest&) {}), std::vector<std::string>());
  // Without an output matrix the embedding serves.
  EXPECT_EQ(Findings([](Manifest& m) { Erase(m, "output.weight"); }), std::vector<std::string>());
}

TEST(ModelTensors, AllMissingOnesAreNamedAtOnce) {
  ExpectOne(
      [](Manifest& m) {
        Erase(m, "blk.1.ffn_up.weight");
        Erase(m, "output_norm.weight");
        Erase(m, "blk.0.attn_q.weight");
      },
      "error gguf.tensor-missing",
      {"m.gguf", "'blk.0.attn_q.weight', 'blk.1.ffn_up.weight', 'output_norm.weight'"});
  ExpectOne([](Manifest& m) { m.spec->n_layers = 3; }, "error gguf.tensor-missing",
            {"blk.2.attn_norm.weight", "blk.2.ffn_down.weight"});
}

TEST(ModelTensors, ShapesFollowFromTheNumbers) {
  ExpectOne(
      [](Manifest& m) {
        for (TensorInfo& tensor : m.tensors) {
          if (tensor.name == "blk.1.ffn_norm.weight") tensor.shape = Shape{7};
        }
      },
      "error gguf.tensor-role", {"blk.1.ffn_norm.weight", "[7]"});
}

TEST(ModelTensors, WhatNoLlamaHasIsARemark) {
  ExpectOne(
      [](Manifest& m) {
        m.tensors.push_back(
            {"blk.0.attn_q.bias", TensorRole::kOther, {}, DType::kF32, Shape{32}});
      },
      "warning gguf.tensor-unknown", {"blk.0.attn_q.bias"});
}

TEST(ModelTensors, VocabulariesThatMakeOthersAbort) {
  const auto replace = [](Manifest& m, size_t id, std::string_view text) {
    StringList tokens;
    for (size_t i = 0; i < m.tokenizer.tokens.size(); ++i) {
      tokens.push_back(i == id ? text : m.tokenizer.tokens[i]);
    }
    m.tokenizer.tokens = std::move(tokens);
  };
  ExpectOne([&](Manifest& m) { replace(m, 2, std::string(m.tokenizer.tokens[1])); },
            "error tokenizer.duplicate-token", {"token 2"});
  using std::string_view_literals::operator""sv;
  ExpectOne([&](Manifest& m) { replace(m, 3, "a\0b"sv); }, "error tokenizer.token",
            {"token 3", "a\\x00b"});
  ExpectOne([](Manifest& m) { m.tokenizer.tokens.push_back("more"); }, "warning tokenizer.length",
            {"tokens"});
}

TEST(ModelTensors, OtherArchitecturesAreNotJudged) {
  const auto bytes = testing::GgufBuilder()
                         .Text("general.architecture", "mamba")
                         .Tensor("t", {1}, 0, testing::Pattern(4))
                         .Build();
  EXPECT_TRUE(
      CheckModelTensors(GgufFile(testing::InMemory(bytes)).manifest(), "m.gguf").empty());
  const auto lacking = testing::GgufBuilder().Text("general.architecture", "llama").Build();
  const auto findings =
      CheckModelTensors(GgufFile(testing::InMemory(lacking)).manifest(), "m.gguf");
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].id, "model.missing-key");
}

}  // namespace
}  // namespace quern
