// A GGUF file carried from a stream to an output, byte by byte, whoever wrote it, and compared with
// its integrity trailer on the way: what pack and unpack do.
#pragma once

#include <cstdint>

#include "formats/core/file.h"
#include "formats/core/log.h"

namespace quern {

// Copies all bytes of `gguf` to `output`, the header with the first write; does not commit.
// Progress is advanced by bytes. Returns the number of bytes.
// A file whose header is not understood, but begins as GGUF, is copied as it is.
// Throws: Error kData "input.unknown-format" where it does not; "gguf.truncated",
// "gguf.tensor-past-eof" where the stream ends early; "trailer.*" where a trailer does not agree.
// kMemory "memory.budget" where the header, which is held in memory, is longer than
// `max_header_bytes`.
uint64_t CopyGguf(ByteStream& gguf, Output& output, uint64_t max_header_bytes,
                  Progress* progress = nullptr);

}  // namespace quern
