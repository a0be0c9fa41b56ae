// How the bytes of a GGUF file are cut into the segments of a QPACK: a rule, so that a QPACK says
// nothing about it that could be a lie.
// Source: formats/QPACK.md, "Pieces" and "Groups".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "formats/gguf_outline.h"
#include "formats/plane_split.h"

namespace quern {

// A run of bytes of the GGUF file that one segment holds.
struct QpackPiece {
  uint64_t segment = 0;  // index
  uint64_t begin = 0;    // in the GGUF file
  uint32_t bytes = 0;

  uint64_t end() const { return begin + bytes; }
};

// What a piece consists of: its bytes by kind.
class QpackShape {
 public:
  // Consecutive bytes of one kind.
  struct Run {
    uint32_t begin = 0, bytes = 0;  // in the piece
  };
  // All bytes of one kind, in the order of the piece: blocks of a type, or bytes that are none.
  struct Group {
    const PlaneSplit* split = nullptr;
    uint32_t bytes = 0;
    std::vector<Run> runs;
    uint64_t n_blocks() const { return bytes / split->block_bytes(); }
  };
  // Bytes that are no blocks first, then blocks in the order of their types' GGUF ids.
  std::span<const Group> groups() const { return groups_; }
  size_t n_planes() const;

 private:
  friend class QpackLayout;
  void Add(const PlaneSplit& split, Run run);

  std::vector<Group> groups_;
};

class QpackLayout {
 public:
  // Of a file that is not understood: all of it is bytes.
  explicit QpackLayout(uint32_t segment_bytes) : segment_bytes_(segment_bytes) {}
  // Requires: segment_bytes within its limits.
  QpackLayout(GgufOutline outline, uint32_t segment_bytes)
      : segment_bytes_(segment_bytes), outline_(std::move(outline)) {}

  uint32_t segment_bytes() const { return segment_bytes_; }
  // The file cannot end before this.
  uint64_t least_bytes() const { return outline_.data_end(); }
  // Returns the piece that begins at `begin`, which is 0 or the end of another piece, as long as
  // it can be; cut off at `gguf_bytes`, the length of the file (UINT64_MAX where it is not known).
  // Requires: begin < gguf_bytes.
  QpackPiece PieceAt(uint64_t segment, uint64_t begin, uint64_t gguf_bytes) const;
  // Requires: a piece that PieceAt gives.
  QpackShape ShapeOf(const QpackPiece& piece) const;
  // Returns the bytes of which tensors the piece holds, for messages: the first one's name, and how
  // many there are.
  struct Tensors {
    std::string first;
    size_t n = 0;
  };
  Tensors TensorsIn(const QpackPiece& piece) const;

 private:
  // Returns the index of the first extent that ends behind `offset`.
  size_t ExtentBehind(uint64_t offset) const;

  uint32_t segment_bytes_ = 0;
  GgufOutline outline_;
};

}  // namespace quern
