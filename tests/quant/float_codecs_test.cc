// half-inl.h against its definition, formats/core/half.h, NaNs and infinities included.
#include <gtest/gtest.h>

#include <bit>

#include "formats/core/bytes.h"
#include "formats/core/half.h"
#include "tests/quant/vectors.h"

namespace quern {
namespace {

TEST(FloatCodecs, EveryHalfWidensToItsDefinition) {
  std::vector<uint8_t> all(2 * 65536);
  for (uint32_t h = 0; h < 65536; ++h) StoreLE(&all[2 * h], static_cast<uint16_t>(h));
  ForEachIsa([&](std::string_view isa) {
    const auto f16 = Decoded(*FindCodec(DType::kF16), all);
    const auto bf16 = Decoded(*FindCodec(DType::kBF16), all);
    for (uint32_t h = 0; h < 65536; ++h) {
      const auto half = static_cast<uint16_t>(h);
      ASSERT_EQ(std::bit_cast<uint32_t>(f16[h]), std::bit_cast<uint32_t>(F16ToF32(half)))
          << isa << " " << h;
      ASSERT_EQ(std::bit_cast<uint32_t>(bf16[h]), std::bit_cast<uint32_t>(BF16ToF32(half)))
          << isa << " " << h;
    }
  });
}

// Every float whose bits are a multiple of `stride`, plus `offset`.
void SweepFloats(uint64_t stride, uint64_t offset) {
  constexpr uint64_t kChunk = 1 << 16;
  std::vector<float> x(kChunk);
  for (uint64_t bits = offset; bits < (uint64_t{1} << 32);) {
    uint64_t n = 0;
    for (; n < kChunk && bits < (uint64_t{1} << 32); ++n, bits += stride) {
      x[n] = std::bit_cast<float>(static_cast<uint32_t>(bits));
    }
    x.resize(n);
    for (const DType type : {DType::kF16, DType::kBF16}) {
      const BlockCodec& codec = *FindCodec(type);
      ASSERT_EQ(Encoded(codec, codec.encode, x), Encoded(codec, codec.encode_scalar, x))
          << NameOf(type) << " near bits " << bits;
    }
    x.resize(kChunk);
  }
}

// All 2^32 floats take fifteen seconds per instruction set: QUERN_FULL_SWEEP=1 asks for them.
TEST(FloatCodecs, FloatsRoundToTheirDefinition) {
  const bool full = std::getenv("QUERN_FULL_SWEEP") != nullptr;
  ForEachIsa([&](std::string_view isa) {
    SCOPED_TRACE(isa);
    // 509 is prime: the sweep meets every exponent and a spread of mantissas.
    full ? SweepFloats(1, 0) : SweepFloats(509, 17);
  });
}

// The floats next to every tie and border of binary16.
TEST(FloatCodecs, TiesRoundToEven) {
  std::vector<float> x;
  for (uint32_t h = 0; h < 65536; ++h) {
    const uint32_t bits = std::bit_cast<uint32_t>(F16ToF32(static_cast<uint16_t>(h)));
    for (const uint32_t step : {0u, 0x0FFFu, 0x1000u, 0x1001u}) {
      x.push_back(std::bit_cast<float>(bits + step));
    }
    // Halfway between two subnormals.
    x.push_back((F16ToF32(static_cast<uint16_t>(h & 0x3FF)) + 0x1p-25f));
  }
  const BlockCodec& codec = *FindCodec(DType::kF16);
  ForEachIsa([&](std::string_view isa) {
    EXPECT_EQ(Encoded(codec, codec.encode, x), Encoded(codec, codec.encode_scalar, x)) << isa;
  });
}

}  // namespace
}  // namespace quern
