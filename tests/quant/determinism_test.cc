// Output bytes depend on nothing but weights, importance, effort and version: not on the instruction
// set (here), the compiler, its flags or the machine (run the same test elsewhere). The hashes are
// committed; QUERN_UPDATE_GOLDEN=1 rewrites them after a change that is meant.
#include <gtest/gtest.h>
#include <sha2.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "tests/quant/vectors.h"

namespace quern {
namespace {

constexpr char kGoldenFile[] = QUERN_SOURCE_DIR "/tests/quant/determinism.golden";

// Weights made with integer arithmetic and exact operations only, so that no libm is asked.
std::vector<float> ExactWeights(uint64_t n, uint64_t seed) {
  std::vector<float> x(n);
  for (uint64_t i = 0; i < n; ++i) {
    // The sum of four uniform numbers is bell-shaped; one in 256 is an outlier.
    const uint64_t h = SplitMix((seed << 40) + i);
    int32_t sum = -2 * 65535;
    for (int k = 0; k < 4; ++k) sum += static_cast<int32_t>(h >> 16 * k & 0xFFFF);
    const uint64_t g = SplitMix((seed + 77) << 40 | i);
    // Every second block of 256 mixes magnitudes.
    const int spread = i / 256 % 2 == 0 ? 0 : static_cast<int>(g >> 8 & 3);
    const float scale = std::ldexp(1.0f, -22 - spread);
    x[i] = static_cast<float>(sum) * scale * ((g & 255) == 0 ? 6.0f : 1.0f);
  }
  return x;
}

std::string Sha256(const std::vector<uint8_t>& bytes) {
  std::array<char, SHA256_DIGEST_STRING_LENGTH> hex;
  return SHA256Data(bytes.data(), bytes.size(), hex.data());
}

std::string Line(const BlockCodec& codec, const char* vectors, Effort effort,
                 const std::vector<uint8_t>& bytes) {
  constexpr const char* kNames[] = {"fast", "normal", "best"};
  return std::string(NameOf(codec.type)) + " " + kNames[static_cast<int>(effort)] + " " + vectors +
         " " + Sha256(bytes);
}

// Returns one line per codec, effort and set of vectors.
std::vector<std::string> Lines() {
  const std::vector<float> weights = ExactWeights(64 * 1024, 1);
  std::vector<float> importance = ExactWeights(1024, 2);
  for (float& w : importance) w = w * w;
  std::vector<std::string> lines;
  for (const BlockCodec* codec : AllCodecs()) {
    for (const Effort effort : {Effort::kFast, Effort::kNormal, Effort::kBest}) {
      const auto add = [&](const char* name, const std::vector<uint8_t>& bytes) {
        lines.push_back(Line(*codec, name, effort, bytes));
      };
      add("weights", Encoded(*codec, codec->encode, weights, effort, nullptr, 64));
      add("importance", Encoded(*codec, codec->encode, weights, effort, importance.data(), 64));
      std::vector<uint8_t> all;
      for (const TestVector& vector : HardVectors(codec->max_abs)) {
        // The others come from libm.
        if (!vector.exact) continue;
        const auto bytes = Encoded(*codec, codec->encode, vector.x, effort);
        all.insert(all.end(), bytes.begin(), bytes.end());
      }
      add("hard", all);
    }
  }
  return lines;
}

std::vector<std::string> ReadGolden() {
  std::ifstream in(kGoldenFile);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

TEST(Determinism, EveryIsaGivesTheCommittedBytes) {
  if (std::getenv("QUERN_UPDATE_GOLDEN") != nullptr) {
    std::ofstream out(kGoldenFile);
    for (const std::string& line : Lines()) out << line << "\n";
  }
  const auto golden = ReadGolden();
  ASSERT_FALSE(golden.empty());
  ForEachIsa([&](std::string_view isa) {
    const auto lines = Lines();
    ASSERT_EQ(lines.size(), golden.size());
    for (size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i], golden[i]) << isa;
  });
}

}  // namespace
}  // namespace quern
