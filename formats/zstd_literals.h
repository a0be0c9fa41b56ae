// An encoder of zstd frames that codes literals and nothing else: each block of 128 KiB gets the
// Huffman code that is optimal for its bytes, or the one of the block before it.
//
// The library has no way to ask for this. Its match finder only hurts on the bytes of weights, and
// where no byte is more frequent than 1/128 it takes a block for random without trying
// (HUF_compress), though pairs of 4-bit codes still have 2 to 5 % to give. What comes out are
// ordinary frames that every zstd decodes, and the bytes depend on nobody's version.
// Source: RFC 8878, "Zstandard Compression and the 'application/zstd' Media Type".
#pragma once

#include <cstddef>

#include "formats/core/bytes.h"

namespace quern {

// Returns the room that a frame of `n_bytes` of content needs while it is written.
constexpr size_t ZstdLiteralsBound(size_t n_bytes) {
  constexpr size_t kBlockBytes = size_t{1} << 17;
  // Frame header, three bytes for each block, and what a store of eight bytes runs over.
  return 13 + n_bytes + 3 * (n_bytes / kBlockBytes + 1) + 8;
}

// Writes `content` as one frame that names its size, and returns the frame's bytes, at most
// ZstdLiteralsBound(content.size()) - 8. Allocates nothing.
// Requires: out.size() >= ZstdLiteralsBound(content.size()); content.size() < 2^32.
size_t EncodeZstdLiterals(ByteView content, MutableByteView out);

}  // namespace quern
