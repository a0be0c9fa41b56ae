// One segment of a QPACK: a piece of a GGUF file, taken apart into planes that are coded each by
// itself, and hashes of both. Source: formats/QPACK.md, "Segment".
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "formats/core/bytes.h"
#include "formats/core/error.h"
#include "formats/qpack_format.h"
#include "formats/qpack_layout.h"
#include "formats/scratch.h"
#include "formats/zstd_frame.h"

namespace quern {

// What stands in front of a segment's payload.
struct QpackSegmentHead {
  uint32_t raw_bytes = 0;     // of the piece
  uint32_t packed_bytes = 0;  // of the payload
  bool is_stored = false;     // the payload is the piece as it is
  uint64_t raw_hash = 0;

  static QpackSegmentHead Load(const uint8_t* bytes) {
    const auto packed = LoadLE<uint32_t>(bytes + 4);
    return {LoadLE<uint32_t>(bytes), packed & ~kQpackStoredFlag, (packed & kQpackStoredFlag) != 0,
            LoadLE<uint64_t>(bytes + 8)};
  }
};

// Makes segments. Holds the memory that this takes, so that one serves for many; not thread-safe.
class QpackSegmentEncoder {
 public:
  // Units: bytes that an encoder holds at most.
  static uint64_t MemoryBytes(uint32_t segment_bytes, int level);

  // Replaces `out` with segment `index`, which holds `raw`, of that shape; planes are coded at
  // `level` of QPACK. `store_only`: without compression.
  void Encode(ByteView raw, const QpackShape& shape, uint64_t index, int level, bool store_only,
              std::vector<uint8_t>& out);

 private:
  void EncodePlanes(ByteView raw, const QpackShape& shape, int level, std::vector<uint8_t>& out);
  bool EncodePlane(ByteView plane, bool is_weights, int level, std::vector<uint8_t>& out);
  // Replaces coded_ if a frame of that level is shorter than `best_bytes`, and returns the shorter.
  size_t TryMatches(ByteView plane, int zstd_level, size_t best_bytes);

  ZstdEncoder zstd_;
  Scratch gathered_, planes_, coded_, frame_;
};

// Takes segments apart. Holds the memory that this takes; not thread-safe.
class QpackSegmentDecoder {
 public:
  // Units: bytes that a decoder holds at most.
  static uint64_t MemoryBytes(uint32_t segment_bytes);

  // Fills `out` with the piece of that shape that `segment`, the whole of segment `index`, holds.
  // Returns nothing, or the error, kData "qpack.segment", without file and place.
  std::optional<Error> Decode(ByteView segment, const QpackShape& shape, uint64_t index,
                              MutableByteView out);

 private:
  std::optional<Error> DecodePlanes(ByteView payload, const QpackShape& shape, MutableByteView out);

  ZstdDecoder zstd_;
  Scratch planes_, joined_;
};

}  // namespace quern
