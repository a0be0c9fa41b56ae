// Work on all rows of many tensors in bounded memory: cut into bands, in parallel, with the results
// taken in order, so that nothing depends on the number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "formats/core/log.h"

namespace quern {

struct BandOptions {
  unsigned threads = 0;  // 0: as many as the machine has
  uint64_t memory_bytes = uint64_t{512} << 20;
  Progress* progress = nullptr;  // advanced by bytes; may be null
};

// A tensor to work on, and what a band of it takes.
struct BandedTensor {
  size_t tensor = 0;  // as the caller counts
  uint64_t rows = 0;
  uint64_t row_bytes = 0;      // of each row that a band holds, at least 1
  uint64_t scratch_bytes = 0;  // per band, however many rows it has
};

struct RowBand {
  size_t tensor = 0;  // BandedTensor::tensor
  uint64_t row_begin = 0;
  uint64_t row_count = 0;
};

// Looks at the rows of one band; may be called from many threads at once. What it returns is
// called afterwards, one at a time and in the order of the bands.
using BandWork = std::function<std::function<void()>(const RowBand&)>;

// Calls `work` for every band of every tensor. Where bands begin depends on the tensors alone.
// `phase` ("checking") and `file` are for progress and messages.
// Throws: Error kMemory "memory.budget" if a row does not fit; whatever `work` throws.
void ForEachBand(std::string_view phase, std::string_view file,
                 std::span<const BandedTensor> tensors, const BandOptions& options,
                 const BandWork& work);

}  // namespace quern
