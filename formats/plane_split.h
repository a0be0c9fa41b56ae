// Blocks taken apart into byte planes, and put together again: what is alike stands together, so
// that an entropy coder sees it.
//
// A field of codes or packed scales is one plane. A number of several bytes is as many planes,
// plane k with byte k; binary floats are rotated left by one bit before, so that the sign goes with
// the last bits of the mantissa and the exponent is bytes of its own (bf16, f32) or together with
// the first bits of the mantissa (f16). Source: formats/QPACK.md, "Planes".
#pragma once

#include <array>
#include <cstdint>

#include "formats/core/bytes.h"
#include "formats/core/dtype.h"

namespace quern {

class PlaneSplit {
 public:
  static constexpr size_t kMaxPlanes = 8;

  // Returns the split of blocks of `type`.
  static const PlaneSplit& Of(DType type);
  // Returns the split of bytes that are no blocks: one plane.
  static const PlaneSplit& OfBytes();

  explicit PlaneSplit(const BlockLayout& layout);

  uint32_t block_bytes() const { return block_bytes_; }
  size_t n_planes() const { return n_planes_; }
  // Units: bytes of that plane for `n_blocks` blocks.
  uint64_t plane_bytes(size_t plane, uint64_t n_blocks) const {
    return n_blocks * bytes_per_block_[plane];
  }

  // Writes the planes of `blocks` one behind the other.
  // Requires: whole blocks; out.size() == blocks.size().
  void Split(ByteView blocks, MutableByteView out) const;
  // The reverse, from planes that lie anywhere: `planes` has n_planes() pointers.
  void Join(const std::array<const uint8_t*, kMaxPlanes>& planes, MutableByteView blocks) const;

 private:
  // One field: codes are numbers of one byte, many to a block.
  struct Field {
    uint32_t offset = 0;    // in the block
    uint32_t bytes = 0;     // in the block
    uint32_t n_planes = 1;  // bytes of a number
    bool is_rotated = false;
  };

  uint32_t block_bytes_ = 1;
  std::array<Field, 5> fields_{};
  size_t n_fields_ = 0;
  std::array<uint32_t, kMaxPlanes> bytes_per_block_{};
  size_t n_planes_ = 0;
};

}  // namespace quern
