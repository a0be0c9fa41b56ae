// Pins what QPACK relies on in zstd: that the literals-only setting finds no matches and codes
// literals, and that a decoder takes one whole frame and nothing else.
#include "formats/zstd_frame.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace quern {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes Encoded(const Bytes& content, int level) {
  Bytes out(ZstdEncoder::Bound(content.size()));
  out.resize(ZstdEncoder().Encode(content, level, out));
  return out;
}

// Exponents of Gaussian weights as bf16: about 2.5 bits each.
Bytes Exponents(size_t n) {
  std::mt19937 random(1);
  std::normal_distribution<float> gauss(0, 0.02f);
  Bytes out(n);
  for (uint8_t& byte : out) {
    const float x = gauss(random);
    uint32_t bits = 0;
    std::memcpy(&bits, &x, sizeof bits);
    byte = static_cast<uint8_t>(bits >> 23);
  }
  return out;
}

double EntropyOf(const Bytes& bytes) {
  std::array<double, 256> counts{};
  for (const uint8_t byte : bytes) ++counts[byte];
  double bits = 0;
  for (const double count : counts) {
    if (count > 0) bits -= count * std::log2(count / static_cast<double>(bytes.size()));
  }
  return bits / 8 / static_cast<double>(bytes.size());
}

TEST(ZstdFrame, LiteralsOnlyComesNearTheEntropyWhereMatchesDoNot) {
  const Bytes bytes = Exponents(1 << 20);
  const double entropy = EntropyOf(bytes);
  const auto Ratio = [&](int level) {
    return static_cast<double>(Encoded(bytes, level).size()) / static_cast<double>(bytes.size());
  };
  EXPECT_NEAR(entropy, 0.318, 0.002);
  EXPECT_LT(Ratio(kZstdLiteralsOnly), entropy * 1.025);
  EXPECT_GT(Ratio(1), entropy * 1.1);
  EXPECT_GT(Ratio(3), entropy * 1.2);
}

TEST(ZstdFrame, LiteralsOnlyFindsNoMatches) {
  // A random text repeated: any match finder would halve it.
  Bytes text(1 << 14);
  std::mt19937 random(2);
  for (uint8_t& byte : text) byte = static_cast<uint8_t>(random() & 63);
  Bytes twice = text;
  twice.insert(twice.end(), text.begin(), text.end());
  EXPECT_GT(Encoded(twice, kZstdLiteralsOnly).size(), twice.size() * 3 / 4);
  EXPECT_LT(Encoded(twice, 3).size(), twice.size() / 2);
}

TEST(ZstdFrame, DecodesExactlyOneWholeFrame) {
  for (const int level : {kZstdLiteralsOnly, 3}) {
    const Bytes content = Exponents(300000);
    Bytes frame = Encoded(content, level);
    EXPECT_EQ(frame, Encoded(content, level));
    ZstdDecoder decoder;
    Bytes out(content.size());
    ASSERT_TRUE(decoder.Decode(frame, out));
    EXPECT_EQ(out, content);
    Bytes other(content.size() + 1);
    EXPECT_FALSE(decoder.Decode(frame, other));
    other.resize(content.size() - 1);
    EXPECT_FALSE(decoder.Decode(frame, other));
    for (size_t n = 0; n < frame.size(); n += 1 + n / 7) {
      EXPECT_FALSE(decoder.Decode(ByteView(frame).first(n), out)) << n;
    }
    Bytes longer = frame;
    longer.push_back(0);
    EXPECT_FALSE(decoder.Decode(longer, out));
    longer = frame;  // two frames
    longer.insert(longer.end(), frame.begin(), frame.end());
    EXPECT_FALSE(decoder.Decode(longer, out));
    Bytes skippable = {0x50, 0x2A, 0x4D, 0x18, 4, 0, 0, 0, 1, 2, 3, 4};
    EXPECT_FALSE(decoder.Decode(skippable, {}));
    skippable.insert(skippable.end(), frame.begin(), frame.end());
    EXPECT_FALSE(decoder.Decode(skippable, out));
  }
}

TEST(ZstdFrame, TakesAnyBytes) {
  ZstdDecoder decoder;
  Bytes out(1000);
  std::mt19937 random(3);
  Bytes frame = Encoded(Exponents(1000), kZstdLiteralsOnly);
  for (int round = 0; round < 20000; ++round) {
    Bytes damaged = frame;
    damaged[random() % damaged.size()] = static_cast<uint8_t>(random());
    damaged[random() % damaged.size()] = static_cast<uint8_t>(random());
    decoder.Decode(damaged, out);
  }
  EXPECT_TRUE(decoder.Decode(frame, out));
}

}  // namespace
}  // namespace quern
