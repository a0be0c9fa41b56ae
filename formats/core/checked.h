// Overflow-checked arithmetic: the only arithmetic allowed on numbers that come from a file.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>

namespace quern {

// Returns a + b, or nothing if it does not fit 64 bits.
constexpr std::optional<uint64_t> CheckedAdd(uint64_t a, uint64_t b) {
  uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

// Returns a * b, or nothing if it does not fit 64 bits.
constexpr std::optional<uint64_t> CheckedMul(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

// Returns `value` rounded up to a multiple of `alignment`, or nothing if it does not fit 64 bits.
// Requires: alignment is a power of two.
constexpr std::optional<uint64_t> CheckedAlignUp(uint64_t value, uint64_t alignment) {
  const auto sum = CheckedAdd(value, alignment - 1);
  if (!sum) return std::nullopt;
  return *sum & ~(alignment - 1);
}

// Returns true if the extent [offset, offset + size) lies inside [0, limit), without overflow.
constexpr bool FitsWithin(uint64_t offset, uint64_t size, uint64_t limit) {
  return offset <= limit && size <= limit - offset;
}

}  // namespace quern
