// Perplexities that unmodified llama.cpp (npm's prebuilt 3.22.1) gives for the same weights and texts;
// tests/interop/llama_driver.cc prints them. Those of a forward pass in double (PERPLEXITY.md, "Known
// values") are nearer by far: llama.cpp keeps keys and values as f16.
#include <gtest/gtest.h>

#include <filesystem>

#include "converters/converters.h"
#include "formats/core/error.h"
#include "formats/core/file.h"
#include "formats/model_file.h"
#include "tests/verify/vocabularies.h"
#include "verify/gemm.h"
#include "verify/perplexity.h"

namespace quern {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 24;

TEST(KnownValues, Stories260KOnTinyStories) {
  const std::string text_path = AssetPath("text/tinystories_valid_head_30k.txt");
  if (!std::filesystem::exists(text_path)) GTEST_SKIP() << text_path << " is not there";
  const std::string text = ReadWholeFile(text_path, kMaxTextBytes);
  const auto model = OpenModelFile(QUERN_TEST_DATA "/stories260K/stories260K-f32.gguf");
  const auto checkpoint = OpenCheckpoint(QUERN_TEST_DATA "/stories260K/meta-f32");
  PerplexityOptions options;
  options.context = 256;
  options.chunks = 40;
  Report report = Perplexity(*model, text, options);
  EXPECT_EQ(report.windows, 40u);
  EXPECT_NEAR(report.perplexity.value, 6.150235, 0.001);
  EXPECT_NEAR(report.perplexity.value, 6.1501260, 0.00005);  // in double
  EXPECT_EQ(Perplexity(*checkpoint, text, options).predictions.nll, report.predictions.nll);
  options.context = 512;
  options.chunks = 30;
  report = Perplexity(*model, text, options);
  EXPECT_EQ(report.windows, 30u);
  EXPECT_NEAR(report.perplexity.value, 7.028865, 0.0015);
  EXPECT_NEAR(report.perplexity.value, 7.0279632, 0.00005);  // in double
}

struct FixtureText {
  const char* name;
  uint64_t windows;
  double perplexity, standard_error;
};

class FixtureTest : public testing::TestWithParam<FixtureText> {};

TEST_P(FixtureTest, GivesLlamaCppsPerplexity) {
  const FixtureText& expected = GetParam();
  const auto model = OpenCheckpoint(QUERN_TEST_DATA "/fixture/meta-2");
  const std::string text =
      ReadWholeFile(QUERN_TEST_DATA "/fixture/" + std::string(expected.name), kMaxTextBytes);
  const Report report = Perplexity(*model, text, {});
  EXPECT_EQ(report.windows, expected.windows);
  EXPECT_EQ(report.context, 512u);
  EXPECT_EQ(report.tokens, expected.windows * 255);
  EXPECT_NEAR(report.perplexity.value, expected.perplexity, 0.0002 * expected.perplexity);
  EXPECT_NEAR(report.perplexity.standard_error, expected.standard_error, 0.0005);
}

TEST(KnownValues, BF16StaysNearF32) {
  const auto model = OpenCheckpoint(QUERN_TEST_DATA "/fixture/meta-2");
  const std::string text = ReadWholeFile(QUERN_TEST_DATA "/fixture/austen.txt", kMaxTextBytes);
  PerplexityOptions options;
  options.chunks = 40;
  const Report f32 = Perplexity(*model, text, options);
  options.forward.compute = Compute::kBF16;
  try {
    ChooseProduct(options.forward);
  } catch (const Error&) {
    GTEST_SKIP() << "built without oneDNN";
  }
  const Report bf16 = Perplexity(*model, text, options);
  EXPECT_NEAR(bf16.perplexity.value, f32.perplexity.value, 0.001 * f32.perplexity.value);
  EXPECT_NE(bf16.predictions.nll, f32.predictions.nll);
  EXPECT_EQ(bf16.compute, Compute::kBF16);
}

INSTANTIATE_TEST_SUITE_P(Texts, FixtureTest,
                         testing::Values(FixtureText{"austen.txt", 123, 15.2020, 0.190},
                                         FixtureText{"kjv.txt", 107, 19.1595, 0.265}),
                         [](const auto& test) { return std::string(test.param.name, 3); });

}  // namespace
}  // namespace quern
