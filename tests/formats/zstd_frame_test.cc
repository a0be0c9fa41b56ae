// Pins what QPACK relies on in zstd: that a decoder takes one whole frame and nothing else, and what
// an encoder needs.
#include "formats/zstd_frame.h"

#include <gtest/gtest.h>
#include <zstd.h>

#include <cstring>
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

TEST(ZstdFrame, DecodesExactlyOneWholeFrame) {
  for (const int level : {1, 3, 19}) {
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

// The estimate is what --memory is divided by.
TEST(ZstdFrame, EncodersTakeNoMoreThanEstimated) {
  const Bytes content = Exponents(1 << 20);
  for (const int level : {6, 9, 19}) {
    ZSTD_CCtx* context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level);
    Bytes out(ZSTD_compressBound(content.size()));
    ASSERT_EQ(ZSTD_isError(ZSTD_compress2(context, out.data(), out.size(), content.data(),
                                          content.size())),
              0U);
    EXPECT_LE(ZSTD_sizeof_CCtx(context), ZstdEncoder::MemoryBytes(level, content.size()));
    EXPECT_GE(ZSTD_sizeof_CCtx(context), ZstdEncoder::MemoryBytes(level, content.size()) / 8);
    ZSTD_freeCCtx(context);
  }
}

TEST(ZstdFrame, TakesAnyBytes) {
  ZstdDecoder decoder;
  Bytes out(1000);
  std::mt19937 random(3);
  Bytes frame = Encoded(Exponents(1000), 1);
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
