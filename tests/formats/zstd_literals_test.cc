// Frames of literals: the zstd library, which had no part in them, must decode every one.
#include "formats/zstd_literals.h"

#include <gtest/gtest.h>
#include <zstd.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <queue>
#include <random>
#include <vector>

#include "formats/core/hash.h"

namespace quern {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t kBlock = 1 << 17;

// Encodes with a guard behind the room that is asked for.
Bytes Encoded(const Bytes& content) {
  Bytes out(ZstdLiteralsBound(content.size()) + 16, 0xA5);
  const size_t n =
      EncodeZstdLiterals(content, MutableByteView(out).first(ZstdLiteralsBound(content.size())));
  EXPECT_LE(n + 8, ZstdLiteralsBound(content.size()));
  EXPECT_TRUE(std::all_of(out.end() - 16, out.end(), [](uint8_t b) { return b == 0xA5; }));
  out.resize(n);
  return out;
}

// Expects that the library gives back the content; returns the frame's bytes.
size_t ExpectRoundTrip(const Bytes& content) {
  const Bytes frame = Encoded(content);
  EXPECT_EQ(ZSTD_getFrameContentSize(frame.data(), frame.size()), content.size());
  EXPECT_EQ(ZSTD_findFrameCompressedSize(frame.data(), frame.size()), frame.size());
  Bytes back(content.size() + 1);
  const size_t n = ZSTD_decompress(back.data(), back.size(), frame.data(), frame.size());
  EXPECT_EQ(ZSTD_isError(n), 0U) << ZSTD_getErrorName(n) << ", " << content.size() << " bytes";
  back.resize(ZSTD_isError(n) != 0 ? 0 : n);
  EXPECT_TRUE(back == content) << content.size() << " bytes";
  return frame.size();
}

// Bytes of `n_symbols` values from `first` on, the k-th in proportion to (k + 1)^-slope.
Bytes Drawn(size_t n, size_t n_symbols, double slope, size_t first, std::mt19937& random) {
  std::vector<double> weights(n_symbols);
  for (size_t k = 0; k < n_symbols; ++k) weights[k] = std::pow(static_cast<double>(k + 1), -slope);
  std::discrete_distribution<unsigned> draw(weights.begin(), weights.end());
  Bytes out(n);
  for (uint8_t& byte : out) byte = static_cast<uint8_t>(first + draw(random));
  return out;
}

TEST(ZstdLiterals, EveryLengthAndAlphabetComesBack) {
  std::mt19937 random(1);
  for (size_t n = 0; n < 1300; ++n) {
    for (const size_t n_symbols :
         {size_t{1}, size_t{2}, size_t{3}, size_t{16}, size_t{129}, size_t{256}}) {
      ExpectRoundTrip(Drawn(n, n_symbols, 1, n % (257 - n_symbols), random));
    }
  }
  for (size_t n_symbols = 1; n_symbols <= 256; ++n_symbols) {
    for (const double slope : {0.0, 0.5, 1.5, 4.0}) {
      const size_t n = 200 + random() % 40000;
      ExpectRoundTrip(Drawn(n, n_symbols, slope, random() % (257 - n_symbols), random));
    }
  }
  for (const size_t n : {1U << 14, 65535U, 65536U, 65791U, 65792U, 1U << 17, 1U << 20}) {
    for (const size_t more : {0U, 1U, 255U, 256U, 1023U, 1024U}) {
      ExpectRoundTrip(Drawn(n + more, 40, 0.7, 100, random));
      ExpectRoundTrip(Drawn(n - more, 40, 0.7, 100, random));
    }
  }
}

TEST(ZstdLiterals, NoiseIsStoredAndOneValueIsARun) {
  std::mt19937 random(2);
  Bytes noise(3 * kBlock + 5);
  for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random());
  // Frame header and three bytes for each block.
  EXPECT_EQ(ExpectRoundTrip(noise), noise.size() + 9 + 4 * 3);
  EXPECT_EQ(ExpectRoundTrip(Bytes(3 * kBlock, 7)), 9U + 3 * 4);
}

// Returns the bits of an optimal code without a limit of its length, and whether it is within 11.
std::pair<uint64_t, bool> UnlimitedCode(const Bytes& content) {
  std::vector<uint64_t> counts(256);
  for (const uint8_t byte : content) ++counts[byte];
  struct Node {
    uint64_t count;
    int depth;  // of the tree below
  };
  const auto later = [](const Node& a, const Node& b) { return a.count > b.count; };
  std::priority_queue<Node, std::vector<Node>, decltype(later)> queue(later);
  for (const uint64_t count : counts) {
    if (count != 0) queue.push({count, 0});
  }
  uint64_t n_bits = 0;
  while (queue.size() > 1) {
    const Node a = queue.top();
    queue.pop();
    const Node b = queue.top();
    queue.pop();
    n_bits += a.count + b.count;
    queue.push({a.count + b.count, 1 + std::max(a.depth, b.depth)});
  }
  return {n_bits, queue.top().depth <= 11};
}

TEST(ZstdLiterals, CodesAreOptimal) {
  std::mt19937 random(3);
  int n_compared = 0;
  for (int round = 0; round < 300; ++round) {
    const size_t n_symbols = 2 + random() % 255;
    const Bytes content = Drawn(2000 + random() % (kBlock - 2000), n_symbols,
                                static_cast<double>(random() % 30) / 10, 0, random);
    const auto [n_bits, is_within] = UnlimitedCode(content);
    const size_t n_bytes = ExpectRoundTrip(content);
    if (!is_within || n_bits / 8 + 200 > content.size()) continue;
    ++n_compared;
    // Headers of frame, block, literals and sequences, four streams and their table, the tree.
    EXPECT_LE(n_bytes, n_bits / 8 + 9 + 3 + 5 + 1 + 6 + 4 + 129);
    EXPECT_GE(n_bytes, n_bits / 8);
  }
  EXPECT_GT(n_compared, 100);
}

TEST(ZstdLiterals, CodesAreNoLongerThanADecoderTakes) {
  // Counts that grow like Fibonacci's numbers make an unlimited code as deep as there are symbols.
  Bytes content;
  uint32_t a = 1, b = 1;
  for (uint8_t symbol = 0; symbol < 23; ++symbol) {
    content.insert(content.end(), a, symbol);
    b = std::exchange(a, a + b);
  }
  ASSERT_LE(content.size(), kBlock);
  EXPECT_FALSE(UnlimitedCode(content).second);
  std::mt19937 random(4);
  std::shuffle(content.begin(), content.end(), random);
  const size_t n_bytes = ExpectRoundTrip(content);
  // The limit costs the rare ones a few bits.
  EXPECT_LT(static_cast<double>(n_bytes),
            static_cast<double>(UnlimitedCode(content).first) / 8 * 1.01 + 60);
}

TEST(ZstdLiterals, AnEvenlySpreadAlphabetIsCoded) {
  // The library takes these for random: no byte is more frequent than 1/128.
  std::mt19937 random(5);
  const Bytes content = Drawn(kBlock, 192, 0, 0, random);
  EXPECT_LT(ExpectRoundTrip(content), content.size() * 96 / 100);
  Bytes by_library(ZSTD_compressBound(content.size()));
  EXPECT_GT(ZSTD_compress(by_library.data(), by_library.size(), content.data(), content.size(), 1),
            content.size());
}

TEST(ZstdLiterals, BlocksShareACode) {
  std::mt19937 random(6);
  const Bytes one = Drawn(kBlock, 200, 0.5, 0, random);
  Bytes four;
  for (int i = 0; i < 4; ++i) four.insert(four.end(), one.begin(), one.end());
  const size_t n_one = ExpectRoundTrip(one), n_four = ExpectRoundTrip(four);
  // Without the frame's header and, but for the first, the tree, which is some 50 bytes.
  EXPECT_LT(n_four, 4 * (n_one - 9) - 3 * 40);
  // Blocks of other bytes in between do not disturb it, whatever they are.
  for (const Bytes& other :
       {Bytes(kBlock, 1), Drawn(kBlock, 256, 0, 0, random), Drawn(kBlock, 30, 2, 0, random)}) {
    Bytes mixed = one;
    mixed.insert(mixed.end(), other.begin(), other.end());
    mixed.insert(mixed.end(), one.begin(), one.end());
    ExpectRoundTrip(mixed);
  }
}

// The bytes are quern's own: no version of the library changes them.
TEST(ZstdLiterals, TheSameBytesEverywhere) {
  Bytes content(300000);
  uint32_t state = 1;
  for (uint8_t& byte : content) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<uint8_t>((state >> 24) & (state >> 16));
  }
  const Bytes frame = Encoded(content);
  EXPECT_EQ(HexOf(Xxh3(frame)), "8c07d5a64024ee8f");
}

}  // namespace
}  // namespace quern
