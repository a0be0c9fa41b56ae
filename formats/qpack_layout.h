// How the bytes of a GGUF file are cut into the segments of a QPACK: a rule, so that a QPACK says
// nothing about it that could be a lie.
// Source: formats/QPACK.md, "Pieces".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/gguf_reader.h"
#include "formats/plane_split.h"

namespace quern {

// A run of bytes of the GGUF file that one segment holds.
struct QpackPiece {
  uint64_t segment = 0;  // index
  uint64_t begin = 0;    // in the GGUF file
  uint32_t bytes = 0;
  const PlaneSplit* split = nullptr;
  std::optional<size_t> tensor;  // whose data it is

  uint64_t end() const { return begin + bytes; }
};

class QpackLayout {
 public:
  QpackLayout() = default;
  // Requires: as ReadGgufHeader guarantees; segment_bytes within its limits.
  QpackLayout(const GgufHeader& header, uint32_t segment_bytes);

  uint32_t segment_bytes() const { return segment_bytes_; }
  // Where the last tensor's data ends: what follows is the tail, of a length that only the file
  // itself tells.
  uint64_t tail_begin() const { return tail_begin_; }
  // The number of segments in front of the tail; of a file of `gguf_bytes`.
  uint64_t n_fixed_segments() const { return n_fixed_segments_; }
  uint64_t n_segments(uint64_t gguf_bytes) const;

  // Returns the piece that holds the byte at `offset`. In the tail a piece is cut off at
  // `gguf_bytes`. Requires: offset < gguf_bytes.
  QpackPiece PieceAt(uint64_t offset, uint64_t gguf_bytes) const;

 private:
  // Consecutive bytes that are cut in the same way.
  struct Region {
    uint64_t begin = 0, bytes = 0;
    uint64_t first_segment = 0;
    uint32_t piece_bytes = 0;
    const PlaneSplit* split = nullptr;
    std::optional<size_t> tensor;
  };
  void Add(uint64_t end, const PlaneSplit& split, std::optional<size_t> tensor);

  uint32_t segment_bytes_ = 0;
  std::vector<Region> regions_;  // without gaps, none empty
  uint64_t tail_begin_ = 0;
  uint64_t n_fixed_segments_ = 0;
};

}  // namespace quern
