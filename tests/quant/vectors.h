// Floats for codec tests, made without files and equal on every machine (as far as libm is).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/core/dtype.h"
#include "quant/codec.h"
#include "quant/isa.h"

namespace quern {

// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014), SplitMix64.
inline uint64_t SplitMix(uint64_t z) {
  z += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// Returns the i-th standard normal number of the stream `seed` (Box-Muller).
inline double Gauss(uint64_t seed, uint64_t i) {
  const uint64_t h = SplitMix((seed << 40) + i);
  const double u1 = (static_cast<double>(h >> 32) + 1) / 4294967296.0;
  const double u2 = static_cast<double>(h & 0xFFFFFFFFu) / 4294967296.0;
  return std::sqrt(-2 * std::log(u1)) * std::cos(2 * M_PI * u2);
}

// Gaussian weights of deviation 0.02 with 0.4 % of outliers six times as large.
inline std::vector<float> GaussianWeights(uint64_t n, uint64_t seed = 42) {
  std::vector<float> x(n);
  for (uint64_t i = 0; i < n; ++i) {
    double g = Gauss(seed, i);
    if ((SplitMix(((seed + 1000) << 40) + i) & 1023u) < 4) g *= 6;
    x[i] = static_cast<float>(0.02 * g);
  }
  return x;
}

struct TestVector {
  std::string name;
  std::vector<float> x;  // whole blocks of 256
  bool exact = true;     // made without libm, so equal on every machine
};

// Returns inputs that bite: each a few blocks of 256, all magnitudes at most `max_abs`.
inline std::vector<TestVector> HardVectors(float max_abs) {
  constexpr uint64_t kN = 1024;
  std::vector<TestVector> all;
  bool uses_libm = false;
  const auto random = [&uses_libm](uint64_t i) {
    uses_libm = true;
    return static_cast<float>(Gauss(7, i));
  };
  const auto add = [&](std::string name, auto value) {
    std::vector<float> x(kN);
    for (uint64_t i = 0; i < kN; ++i) x[i] = value(i);
    all.push_back({std::move(name), std::move(x), !uses_libm});
    uses_libm = false;
  };
  add("zeros", [](uint64_t) { return 0.0f; });
  add("negative zeros", [](uint64_t) { return -0.0f; });
  add("mixed zeros", [](uint64_t i) { return i % 3 == 0 ? -0.0f : 0.0f; });
  add("constant", [](uint64_t) { return 0.37f; });
  add("negative constant", [](uint64_t) { return -0.37f; });
  add("one hot", [](uint64_t i) { return i % 256 == 77 ? 1.5f : 0.0f; });
  add("negative one hot", [](uint64_t i) { return i % 256 == 200 ? -1.5f : 0.0f; });
  add("ties of both signs", [](uint64_t i) { return (i / 32 + i) % 2 == 0 ? 0.5f : -0.5f; });
  add("positive", [&](uint64_t i) { return std::fabs(random(i)) + 0.1f; });
  add("negative", [&](uint64_t i) { return -std::fabs(random(i)) - 0.1f; });
  add("sparse", [&](uint64_t i) { return i % 101 == 0 ? random(i) : 0.0f; });
  add("integers", [](uint64_t i) { return static_cast<float>(i % 17) - 8.0f; });
  add("halves", [](uint64_t i) { return (static_cast<float>(i % 255) - 127.0f) / 2.0f; });
  add("gaussian", random);
  add("mixed scales", [&](uint64_t i) { return random(i) * (i / 32 % 2 == 0 ? 1e-7f : 1.0f); });
  add("tiny", [&](uint64_t i) { return random(i) * 2e-8f; });
  add("denormal", [&](uint64_t i) { return random(i) * 1e-40f; });
  add("least denormals", [](uint64_t i) { return static_cast<float>(i % 5) * 0x1p-149f; });
  add("around inverse overflow", [&](uint64_t i) {
    return random(i) * std::ldexp(1.0f, -129 + static_cast<int>(i / 32 % 8));
  });
  add("largest", [=](uint64_t i) { return i % 2 == 0 ? max_abs : -max_abs; });
  add("largest one hot", [=](uint64_t i) { return i % 256 == 5 ? -max_abs : 0.0f; });
  add("large", [&](uint64_t i) { return random(i) / 8.0f * max_abs; });
  add("around the largest", [=](uint64_t i) {
    return max_abs * (1.0f - static_cast<float>(i % 32 * (i / 32)) * 0x1p-24f);
  });
  return all;
}

// Returns the bytes that `encode` makes of one row.
inline std::vector<uint8_t> Encoded(const BlockCodec& codec, EncodeFn encode,
                                    std::span<const float> x, Effort effort = Effort::kNormal,
                                    const float* importance = nullptr, uint64_t n_rows = 1) {
  std::vector<uint8_t> out(*RowBytes(codec.type, x.size()));
  encode({x.data(), n_rows, x.size() / n_rows, importance, effort}, out.data());
  return out;
}

inline std::vector<float> Decoded(const BlockCodec& codec, std::span<const uint8_t> blocks) {
  const BlockLayout& layout = LayoutOf(codec.type);
  std::vector<float> out(blocks.size() / layout.block_bytes * layout.block_elems);
  codec.decode(blocks.data(), out.size(), out.data());
  return out;
}

inline bool SameBits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

// The same, but any NaN equals any other: which NaN comes out of an operation on two is the
// compiler's choice.
inline bool SameValues(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!(std::isnan(a[i]) && std::isnan(b[i])) && !SameBits(a.subspan(i, 1), b.subspan(i, 1))) {
      return false;
    }
  }
  return true;
}

// Runs `body` once for every instruction set of this CPU, then goes back to the best.
template <class Body>
void ForEachIsa(const Body& body) {
  for (const std::string_view isa : SupportedIsas()) {
    CapIsa(isa);
    body(isa);
  }
  CapIsa("best");
}

}  // namespace quern
