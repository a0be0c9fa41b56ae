#include "formats/logits_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "tests/formats/gguf_builder.h"
#include "tests/formats/testing.h"

namespace quern {
namespace {

using testing::Bytes;
using testing::ExpectError;
using testing::PutLE;
using testing::PutText;
using testing::VectorOutput;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// By hand from the layout: two windows of 4 tokens, a vocabulary of 3; one row per window.
struct FileOfHand {
  std::string magic = "_logits_";
  int32_t context = 4, vocab_size = 3, n_windows = 2;
  std::vector<int32_t> tokens = {1, 0, 2, 1, 0, 0, 2, 2};
  float scale = 1.0f / 16384, minimum = -4;
  std::vector<uint16_t> codes = {0,     32768, 65535, 77,  // each row padded to an even number
                                 65535, 0,     16384, 77};

  Bytes Build() const {
    Bytes out;
    PutText(out, magic);
    for (const int32_t number : {context, vocab_size, n_windows}) PutLE(out, number);
    for (const int32_t token : tokens) PutLE(out, token);
    for (size_t i = 0; i < codes.size(); ++i) {
      if (i % 4 == 0) {
        PutLE(out, scale);
        PutLE(out, minimum);
      }
      PutLE(out, codes[i]);
    }
    return out;
  }
};

LogitsFile Open(ByteView bytes) {
  return LogitsFile(std::make_unique<MemoryBytes>(bytes, "(memory)"));
}

TEST(LogitsFile, ByHand) {
  const Bytes bytes = FileOfHand().Build();
  const LogitsFile file = Open(bytes);
  EXPECT_EQ(file.layout().context, 4u);
  EXPECT_EQ(file.layout().vocab_size, 3u);
  EXPECT_EQ(file.layout().n_windows, 2u);
  EXPECT_EQ(file.layout().rows_per_window(), 1u);
  EXPECT_EQ(file.layout().row_bytes(), 16u);
  EXPECT_EQ(file.layout().file_bytes(), bytes.size());
  EXPECT_EQ(file.Tokens(0, 1), (std::vector<int32_t>{1, 0, 2, 1}));
  EXPECT_EQ(file.Tokens(1, 1), (std::vector<int32_t>{0, 0, 2, 2}));
  std::vector<float> log_p(3);
  file.ReadLogP(0, 0, file.ReadRow(0, 0), 0, log_p);
  EXPECT_EQ(log_p, (std::vector<float>{-4, -2, -1.0f / 16384}));
  log_p.resize(2);
  file.ReadLogP(1, 0, file.ReadRow(1, 0), 1, log_p);
  EXPECT_EQ(log_p, (std::vector<float>{-4, -3}));
}

// Sizes measured of a file that llama.cpp wrote: 4 windows of 128 tokens, a vocabulary of 32,000.
TEST(LogitsFile, IsAsLongAsLlamaCpps) {
  const LogitsLayout layout = {.context = 128, .vocab_size = 32000, .n_windows = 4};
  EXPECT_EQ(layout.file_bytes(), 16132084u);
}

TEST(LogitsFile, RefusesHeadersThatMakeNoSense) {
  const auto refused = [](const FileOfHand& file, std::string_view id,
                          const std::vector<std::string>& words) {
    const Bytes bytes = file.Build();
    ExpectError([&] { Open(bytes); }, ErrorCode::kData, id, words);
  };
  refused({.magic = "_logitz_"}, "logits.header", {"_logitz_", "_logits_"});
  refused({.context = 3}, "logits.header", {"tokens per window", "3"});
  refused({.context = -1}, "logits.header", {"-1"});
  refused({.vocab_size = 0}, "logits.header", {"vocabulary"});
  refused({.vocab_size = -5}, "logits.header", {"-5"});
  refused({.n_windows = 0}, "logits.header", {"windows"});
  refused({.n_windows = 3}, "logits.size", {"ends early", "3 windows of 4 tokens"});
  refused({.n_windows = 1}, "logits.size", {"longer"});
  refused({.context = 5}, "logits.size", {});
  refused({.vocab_size = 5}, "logits.size", {});
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
  refused({.context = kMost, .vocab_size = kMost, .n_windows = kMost}, "logits.size", {});
}

TEST(LogitsFile, RefusesEveryOtherLength) {
  const Bytes whole = FileOfHand().Build();
  for (size_t n = 0; n < whole.size(); ++n) {
    const Bytes cut(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(n));
    const auto error = testing::ErrorOf([&] { Open(cut); });
    ASSERT_TRUE(error.has_value()) << n;
    EXPECT_EQ(error->id(), n < 20 ? "logits.header" : "logits.size") << n;
  }
  Bytes longer = whole;
  longer.push_back(0);
  ExpectError([&] { Open(longer); }, ErrorCode::kData, "logits.size");
}

TEST(LogitsFile, RefusesTokensOutsideTheVocabulary) {
  for (const int32_t bad : {3, -1}) {
    FileOfHand hand;
    hand.tokens[6] = bad;
    const Bytes bytes = hand.Build();
    const LogitsFile file = Open(bytes);
    EXPECT_EQ(file.Tokens(0, 1).size(), 4u);
    ExpectError([&] { file.Tokens(0, 2); }, ErrorCode::kData, "logits.token",
                {"window 1, token 2", std::to_string(bad)});
  }
}

TEST(LogitsFile, RefusesScalesThatMakeNoProbabilities) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  struct Scales {
    float scale, minimum;
  };
  for (const auto& [scale, minimum] :
       {Scales{kNaN, -4}, {-0.1f, -4}, {kInf, -4}, {0.001f, kNaN}, {0.001f, -kInf}, {1e-3f, -1}}) {
    FileOfHand hand;
    hand.scale = scale;
    hand.minimum = minimum;
    const Bytes bytes = hand.Build();
    const LogitsFile file = Open(bytes);
    ExpectError([&] { file.ReadRow(1, 0); }, ErrorCode::kData, "logits.row",
                {"window 1, position 2"});
  }
}

// Writes rows of logits and reads them back.
TEST(LogitsWriter, RowsComeBackToHalfAStep) {
  std::mt19937 random(4);
  std::normal_distribution<float> normal(0, 4);
  for (const uint64_t vocab_size : {1u, 2u, 7u, 3001u}) {
    const LogitsLayout layout = {.context = 9, .vocab_size = vocab_size, .n_windows = 2};
    ASSERT_EQ(layout.rows_per_window(), 4u);
    const std::vector<int32_t> tokens(18, 0);
    Bytes bytes;
    bool committed = false;
    LogitsWriter writer(std::make_unique<VectorOutput>(bytes, &committed), layout, tokens);
    std::vector<std::vector<float>> rows;
    for (size_t r = 0; r < 8; ++r) {
      std::vector<float>& row = rows.emplace_back(vocab_size);
      for (float& logit : row) logit = normal(random);
      Bytes encoded(layout.row_bytes(), 0xAA);
      LogitsWriter::EncodeRow(row, encoded);
      writer.Put(encoded);
    }
    EXPECT_FALSE(committed);
    writer.Finish();
    EXPECT_TRUE(committed);
    const LogitsFile file = Open(bytes);
    for (uint64_t r = 0; r < 8; ++r) {
      const std::vector<float>& row = rows[r];
      const double max = double{*std::ranges::max_element(row)};
      double sum = 0;
      for (const float logit : row) sum += std::exp(double{logit} - max);
      const LogitsFile::Row scaling = file.ReadRow(r / 4, r % 4);
      EXPECT_LE(scaling.scale, 16.0f / 65535);
      std::vector<float> log_p(vocab_size);
      file.ReadLogP(r / 4, r % 4, scaling, 0, log_p);
      for (size_t i = 0; i < vocab_size; ++i) {
        // What is further than 16 below the most likely entry stands at that.
        const double expected = std::max(double{row[i]} - max, -16.0) - std::log(sum);
        EXPECT_NEAR(log_p[i], expected, 0.51 * double{scaling.scale} + 4e-6);
      }
    }
  }
}

TEST(LogitsWriter, EqualLogitsAreEquallyLikely) {
  const std::vector<float> row(5, 3.5f);
  const LogitsLayout layout = {.context = 4, .vocab_size = 5, .n_windows = 1};
  Bytes bytes(layout.row_bytes(), 0xAA);
  LogitsWriter::EncodeRow(row, bytes);
  EXPECT_EQ(LoadLE<float>(bytes.data()), 0.0f);
  EXPECT_FLOAT_EQ(LoadLE<float>(bytes.data() + 4), -std::log(5.0f));
  for (size_t i = 8; i < bytes.size(); ++i) EXPECT_EQ(bytes[i], 0) << i;  // the padding too
}

TEST(LogitsFile, FingerprintsTellFilesApart) {
  FileOfHand a, b, c;
  b.tokens[3] = 2;
  c.minimum = -4.25f;
  const Bytes bytes[] = {a.Build(), b.Build(), c.Build()};
  EXPECT_NE(Open(bytes[0]).Fingerprint(), Open(bytes[1]).Fingerprint());
  EXPECT_NE(Open(bytes[0]).Fingerprint(), Open(bytes[2]).Fingerprint());
  EXPECT_EQ(Open(bytes[0]).Fingerprint(), Open(Bytes(bytes[0])).Fingerprint());
}

}  // namespace
}  // namespace quern
