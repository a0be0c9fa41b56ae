// zstd for the planes of QPACK: one frame at a time, from memory to memory.
#pragma once

#include <cstdint>
#include <memory>

#include "formats/core/bytes.h"

namespace quern {

// For ZstdEncoder: Huffman-coded literals and nothing else. On the bytes of weights matches are few
// and accidental, and cost more than they save.
inline constexpr int kZstdLiteralsOnly = 0;

class ZstdEncoder {
 public:
  ZstdEncoder();
  ~ZstdEncoder();
  ZstdEncoder(ZstdEncoder&&) noexcept;

  // Returns the most bytes that a frame of `n_bytes` of content can have.
  static size_t Bound(size_t n_bytes);
  // Writes `content` as one frame that names its size, and returns its bytes. The same content and
  // level give the same bytes.
  // `level`: kZstdLiteralsOnly, or zstd's own, 1 to 19.
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
