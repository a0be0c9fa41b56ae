// Writes QPACK: an output that takes the bytes of a GGUF file and packs them.
// Source: formats/QPACK.md, "What a writer must do".
#pragma once

#include <cstdint>
#include <memory>

#include "formats/core/file.h"
#include "formats/core/log.h"
#include "formats/qpack_format.h"

namespace quern {

struct QpackWriteOptions {
  // 1: fast; 2 and 3 also look for repetitions, for little gain and much time.
  int level = 1;
  // Bytes of GGUF in a segment: a power of two within the limits of qpack_format.h.
  uint32_t segment_bytes = kQpackSegmentBytes;
};

// Returns an output that packs what is written to it into `output`, in parallel, and commits that
// with itself. The same GGUF file and level give the same bytes, however it comes.
// Requires: the first Write brings the whole GGUF header, with what follows as the writer likes.
std::unique_ptr<Output> MakeQpackOutput(std::unique_ptr<Output> output,
                                        const QpackWriteOptions& options = {});

// Packs the GGUF file that comes through `gguf` into `output`, and commits it. Any valid GGUF, ours
// or not; its integrity trailer is compared, if it has one. Progress is advanced by its bytes.
// Returns the bytes of the GGUF file.
// Throws: as ReadGgufHeader; kData "gguf.tensor-past-eof" where the stream ends early, "trailer.*"
// where the trailer does not agree.
uint64_t PackGguf(ByteStream& gguf, std::unique_ptr<Output> output,
                  const QpackWriteOptions& options = {}, Progress* progress = nullptr);

}  // namespace quern
