// zstd for the planes of QPACK: one frame at a time, from memory to memory.
#pragma once

#include <cstdint>
#include <memory>

#include "formats/core/bytes.h"

namespace quern {

class ZstdEncoder {
 public:
  ZstdEncoder();
  ~ZstdEncoder();
  ZstdEncoder(ZstdEncoder&&) noexcept;

  // Returns the most bytes that a frame of `n_bytes` of content can have.
  static size_t Bound(size_t n_bytes);
  // Units: bytes that an encoder takes for content of at most `n_bytes` at levels up to `level`.
  static uint64_t MemoryBytes(int level, size_t n_bytes);
  // Writes `content` as one frame that names its size, and returns its bytes. The same content and
  // level give the same bytes, with the same version of zstd.
  // `level`: zstd's own, 1 to 19.
  // Requires: out.size() >= Bound(content.size()).
  size_t Encode(ByteView content, int level, MutableByteView out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class ZstdDecoder {
 public:
  ZstdDecoder();
  ~ZstdDecoder();
  ZstdDecoder(ZstdDecoder&&) noexcept;

  // Fills `out` from `frame`. Returns false where that is not exactly one whole frame, which names
  // its size, with exactly as many bytes of content. Memory does not depend on what the frame says.
  bool Decode(ByteView frame, MutableByteView out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace quern
