// Bytes in memory: views, little-endian loads and stores, and a bounds-checked reader.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include "formats/core/error.h"

namespace quern {

static_assert(std::endian::native == std::endian::little,
              "quern runs on little-endian hosts only: every format it reads is little-endian");

using ByteView = std::span<const uint8_t>;
using MutableByteView = std::span<uint8_t>;

inline ByteView AsBytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string_view AsText(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Returns the little-endian T at `p`, which need not be aligned.
template <typename T>
T LoadLE(const void* p) {
  static_assert(std::is_arithmetic_v<T>);
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

// Stores `value` at `p`, which need not be aligned.
template <typename T>
void StoreLE(void* p, T value) {
  static_assert(std::is_arithmetic_v<T>);
  std::memcpy(p, &value, sizeof(T));
}

// Reads forward through bytes in memory and never past their end.
// Throws: Error kData with id `truncated_id` when fewer bytes remain than asked for.
class ByteReader {
 public:
  // `base_offset` is the place of bytes[0] in `file`, so that errors name offsets in the file.
  ByteReader(ByteView bytes, std::string_view file, std::string_view truncated_id,
             uint64_t base_offset = 0)
      : bytes_(bytes), file_(file), truncated_id_(truncated_id), base_offset_(base_offset) {}

  uint64_t remaining() const { return bytes_.size() - position_; }
  uint64_t position() const { return position_; }
  uint64_t offset() const { return base_offset_ + position_; }

  // `what` names the field in the error message.
  template <typename T>
  T Read(std::string_view what) {
    return LoadLE<T>(Take(sizeof(T), what).data());
  }
  // Returns the next `n` bytes as a view into the underlying bytes.
  ByteView Take(uint64_t n, std::string_view what) {
    if (n > remaining()) {
      throw DataError(truncated_id_, "data ends inside " + std::string(what))
          .File(file_)
          .Offset(offset())
          .Found(std::to_string(remaining()) + " bytes")
          .Expected(std::to_string(n) + " bytes")
          .Hint("the file is damaged or cut off: fetch it again from its publisher");
    }
    const ByteView taken = bytes_.subspan(position_, n);
    position_ += n;
    return taken;
  }

 private:
  ByteView bytes_;
  std::string file_, truncated_id_;
  uint64_t base_offset_ = 0;
  uint64_t position_ = 0;
};

}  // namespace quern
