// The one pass: every tensor of a source goes, band by band, into a sink with the plan's types.
#pragma once

#include <cstdint>

#include "formats/core/log.h"
#include "formats/core/stream.h"
#include "quant/plan.h"

namespace quern {

struct TranscodeOptions {
  unsigned threads = 0;                         // 0: as many as the CPU has
  uint64_t memory_bytes = uint64_t{512} << 20;  // for all buffers of the pass and of the source
  uint64_t band_bytes = uint64_t{1} << 20;      // of source rows; a band has at least one row
  Progress* progress = nullptr;                 // advanced by source bytes; not owned
};

struct TranscodeResult {
  uint64_t source_bytes = 0;  // of tensors, without padding
  uint64_t out_bytes = 0;     // of tensors, without padding
};

// Begins `sink` with plan.Apply(source.manifest()), puts every band in order that it does not have
// yet, and finishes it.
// Reading, computing and writing overlap; the bytes that reach the sink depend neither on threads
// nor on band_bytes nor on the instruction set.
// Throws: Error kMemory "memory.budget" if a band of one row cannot fit, with the figure needed;
// kData "quant.non-finite" for a NaN or infinity, naming tensor, row, column and value; whatever
// source or sink throws, unchanged. After an exception the sink is left unfinished.
TranscodeResult Transcode(TensorSource& source, const QuantPlan& plan, TensorSink& sink,
                          const TranscodeOptions& options = {});

}  // namespace quern
