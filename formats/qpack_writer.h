// Writes QPACK: an output that takes the bytes of a GGUF file and packs them.
// Source: formats/QPACK.md, "What a writer must do".
#pragma once

#include <cstdint>
#include <memory>

#include "formats/core/file.h"
#include "formats/core/log.h"
#include "formats/gguf_format.h"
#include "formats/qpack_format.h"

namespace quern {

struct QpackWriteOptions {
  // 1: fast; 2 and 3 also look for repetitions, for little gain and much time.
  int level = kQpackMinLevel;
  // Bytes of GGUF in a segment: a power of two within the limits of qpack_format.h.
  uint32_t segment_bytes = kQpackSegmentBytes;
  // For all buffers together: there are as many workers as fit, at least one, and at most as many
  // as the arena of oneTBB has threads.
  uint64_t memory_bytes = uint64_t{512} << 20;
};

// Units: bytes that packing takes with so many workers, beside the GGUF header and the output.
uint64_t QpackWritingBytes(const QpackWriteOptions& options, size_t n_workers);

// Returns an output that packs what is written to it into `output`, in parallel, and commits that
// with itself. The same GGUF file and level give the same bytes, however it comes.
// Requires: the first Write brings the whole GGUF header, with what follows as the writer likes; a
// file whose header is not understood (formats/gguf_outline.h) is packed as mere bytes.
std::unique_ptr<Output> MakeQpackOutput(std::unique_ptr<Output> output,
                                        const QpackWriteOptions& options = {});

// Packs the GGUF file that comes through `gguf` into `output`, and commits it. Any file that begins
// as GGUF, ours or not; its integrity trailer is compared, if it has one. Progress is advanced by
// its bytes. Returns the bytes of the GGUF file.
// Throws: as CopyGguf.
uint64_t PackGguf(ByteStream& gguf, std::unique_ptr<Output> output,
                  const QpackWriteOptions& options = {},
                  uint64_t max_header_bytes = kGgufMaxHeaderBytes, Progress* progress = nullptr);

}  // namespace quern
