// One segment of a QPACK: a piece of a GGUF file, its planes coded each by itself, and hashes of
// both. Source: formats/QPACK.md, "Segment".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/core/bytes.h"
#include "formats/core/error.h"
#include "formats/plane_split.h"
#include "formats/qpack_format.h"
#include "formats/zstd_frame.h"

namespace quern {

// What stands in front of a segment's payload.
struct QpackSegmentHead {
  uint32_t raw_bytes = 0;     // of the piece
  uint32_t packed_bytes = 0;  // of the payload
  uint64_t raw_hash = 0;

  static QpackSegmentHead Load(const uint8_t* bytes) {
    return {LoadLE<uint32_t>(bytes), LoadLE<uint32_t>(bytes + 4), LoadLE<uint64_t>(bytes + 8)};
  }
};

// Units: the most bytes that the payload of a piece can have.
constexpr uint64_t MaxQpackPayloadBytes(uint64_t raw_bytes, size_t n_planes) {
  return raw_bytes + kQpackPlaneEntryBytes * n_planes;
}

// Makes segments. Holds the memory that this takes, so that one serves for many; not thread-safe.
class QpackSegmentEncoder {
 public:
  // Replaces `out` with segment `index`, which holds `raw`; its planes are coded at `level` of
  // QPACK. `store_only`: without compression.
  void Encode(ByteView raw, const PlaneSplit& split, uint64_t index, int level, bool store_only,
              std::vector<uint8_t>& out);

 private:
  bool EncodePlane(ByteView plane, const PlaneSplit& split, int level, bool store_only,
                   std::vector<uint8_t>& out);

  ZstdEncoder zstd_;
  std::vector<uint8_t> planes_, frame_, best_;
};

// Takes segments apart. Holds the memory that this takes; not thread-safe.
class QpackSegmentDecoder {
 public:
  // Fills `out` with the piece that `segment`, the whole of segment `index`, holds.
  // Returns nothing, or the error, kData "qpack.segment", without file and place.
  std::optional<Error> Decode(ByteView segment, const PlaneSplit& split, uint64_t index,
                              MutableByteView out);

 private:
  std::optional<Error> DecodePlanes(ByteView payload, const PlaneSplit& split, MutableByteView out);

  ZstdDecoder zstd_;
  std::vector<uint8_t> planes_;
};

}  // namespace quern
