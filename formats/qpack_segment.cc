#include "formats/qpack_segment.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "formats/core/check.h"
#include "formats/core/hash.h"
#include "formats/zstd_literals.h"

namespace quern {
namespace {

// Levels of zstd that are tried beside literals, by level of QPACK. Headers and what is behind the
// tensors are texts and tables: there matches pay. Planes of weights have hardly any.
constexpr int kByteLevels[] = {6, 12, 19};
constexpr int kWeightLevels[] = {0, 7, 19};
static_assert(std::size(kWeightLevels) == kQpackMaxLevel &&
              std::size(kByteLevels) == kQpackMaxLevel);

// A Huffman code takes a bit for each byte at least. Planes that come near that (powers of two as
// scales) are worth a look for matches even at level 1.
constexpr int kFewBitsLevel = 3;
constexpr bool HasFewBits(size_t n_coded, size_t n_bytes) { return n_coded < n_bytes / 6; }

// Whether matches help is seen in the beginning of a plane.
constexpr size_t kSampleBytes = size_t{64} << 10;

// A plane that shrinks by less than this part of it is stored, which is faster to read.
constexpr size_t kLeastGain = 256;

template <typename T>
void Append(T value, std::vector<uint8_t>& out) {
  out.resize(out.size() + sizeof(T));
  StoreLE(out.data() + out.size() - sizeof(T), value);
}
void Append(ByteView bytes, std::vector<uint8_t>& out) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

// The hash at a segment's end: of all in front of it and of its index, so that a segment in
// another's place is found too.
uint64_t HashOf(ByteView segment, uint64_t index) {
  uint8_t bytes[8];
  StoreLE(bytes, index);
  Xxh3Stream hash;
  hash.Update(segment);
  hash.Update(bytes);
  return hash.Digest();
}

}  // namespace

uint64_t QpackSegmentEncoder::MemoryBytes(uint32_t segment_bytes, int level) {
  // Gathered, planes, coded, and the frame that is tried; and zstd's tables.
  const int zstd_level = std::max(kByteLevels[level - 1], kFewBitsLevel);
  return 4 * uint64_t{segment_bytes} + (uint64_t{64} << 10) +
         ZstdEncoder::MemoryBytes(zstd_level, segment_bytes);
}

void QpackSegmentEncoder::Encode(ByteView raw, const QpackShape& shape, uint64_t index, int level,
                                 bool store_only, std::vector<uint8_t>& out) {
  QUERN_CHECK(level >= kQpackMinLevel && level <= kQpackMaxLevel);
  QUERN_CHECK(!raw.empty());
  out.clear();
  Append(static_cast<uint32_t>(raw.size()), out);
  Append(uint32_t{0}, out);  // of the payload, once known
  Append(Xxh3(raw), out);
  if (!store_only) EncodePlanes(raw, shape, level, out);
  const size_t n_payload = out.size() - kQpackSegmentHeadBytes;
  const bool is_stored = store_only || n_payload >= raw.size();
  if (is_stored) {
    out.resize(kQpackSegmentHeadBytes);
    Append(raw, out);
  }
  StoreLE(&out[4], is_stored ? static_cast<uint32_t>(raw.size()) | kQpackStoredFlag
                             : static_cast<uint32_t>(n_payload));
  Append(HashOf(out, index), out);
}

void QpackSegmentEncoder::EncodePlanes(ByteView raw, const QpackShape& shape, int level,
                                       std::vector<uint8_t>& out) {
  size_t entry = out.size();
  out.resize(out.size() + kQpackPlaneEntryBytes * shape.n_planes());
  for (const QpackShape::Group& group : shape.groups()) {
    ByteView blocks = raw.subspan(group.runs[0].begin, group.runs[0].bytes);
    if (group.runs.size() > 1) {
      const MutableByteView gathered = gathered_.Room(group.bytes);
      auto to = gathered.begin();
      for (const auto& run : group.runs) {
        to = std::ranges::copy(raw.subspan(run.begin, run.bytes), to).out;
      }
      blocks = gathered;
    }
    const PlaneSplit& split = *group.split;
    ByteView planes = blocks;
    if (split.n_planes() > 1) {
      const MutableByteView room = planes_.Room(blocks.size());
      split.Split(blocks, room);
      planes = room;
    }
    for (size_t i = 0; i < split.n_planes(); ++i) {
      const ByteView plane = planes.first(split.plane_bytes(i, group.n_blocks()));
      planes = planes.subspan(plane.size());
      const size_t before = out.size();
      const bool is_zstd = EncodePlane(plane, &split != &PlaneSplit::OfBytes(), level, out);
      StoreLE(&out[entry],
              static_cast<uint32_t>(out.size() - before) | (is_zstd ? kQpackZstdFlag : 0));
      entry += kQpackPlaneEntryBytes;
    }
  }
}

size_t QpackSegmentEncoder::TryMatches(ByteView plane, int zstd_level, size_t best_bytes) {
  const size_t n_bytes =
      zstd_.Encode(plane, zstd_level, frame_.Room(ZstdEncoder::Bound(plane.size())));
  if (n_bytes >= best_bytes) return best_bytes;
  std::swap(coded_, frame_);
  return n_bytes;
}

// Appends the coded plane; returns true if it is a zstd frame.
bool QpackSegmentEncoder::EncodePlane(ByteView plane, bool is_weights, int level,
                                      std::vector<uint8_t>& out) {
  const auto Literals = [&](ByteView bytes) {
    return EncodeZstdLiterals(bytes, coded_.Room(ZstdLiteralsBound(bytes.size())));
  };
  int zstd_level = is_weights ? kWeightLevels[level - 1] : kByteLevels[level - 1];
  if (is_weights && zstd_level != 0 && plane.size() > kSampleBytes) {
    const ByteView sample = plane.first(kSampleBytes);
    const size_t n_literals = Literals(sample);
    if (TryMatches(sample, zstd_level, n_literals) == n_literals) zstd_level = 0;
  }
  size_t n_coded = Literals(plane);
  if (HasFewBits(n_coded, plane.size())) zstd_level = std::max(zstd_level, kFewBitsLevel);
  if (zstd_level != 0) n_coded = TryMatches(plane, zstd_level, n_coded);
  const bool is_zstd = n_coded < plane.size() - plane.size() / kLeastGain;
  Append(is_zstd ? ByteView(coded_.Room(n_coded)) : plane, out);
  return is_zstd;
}

uint64_t QpackSegmentDecoder::MemoryBytes(uint32_t segment_bytes) {
  // Planes and joined blocks; zstd's tables and a block of literals.
  return 2 * uint64_t{segment_bytes} + (uint64_t{256} << 10);
}

std::optional<Error> QpackSegmentDecoder::Decode(ByteView segment, const QpackShape& shape,
                                                 uint64_t index, MutableByteView out) {
  const auto Bad = [](std::string_view what) { return DataError("qpack.segment", what); };
  if (segment.size() < kQpackSegmentFrameBytes) return Bad("segment is too short");
  const ByteView hashed = segment.first(segment.size() - 8);
  const uint64_t expected = LoadLE<uint64_t>(&segment[hashed.size()]);
  if (const uint64_t hash = HashOf(hashed, index); hash != expected) {
    return Bad("segment is damaged").Found(HexOf(hash)).Expected(HexOf(expected));
  }
  const auto head = QpackSegmentHead::Load(segment.data());
  if (head.packed_bytes != segment.size() - kQpackSegmentFrameBytes) {
    return Bad("segment has another length than the directory says")
        .Found(fmt::format("{} bytes", head.packed_bytes))
        .Expected(fmt::format("{} bytes", segment.size() - kQpackSegmentFrameBytes));
  }
  if (head.raw_bytes != out.size()) {
    return Bad("segment holds another number of bytes than belong there")
        .Found(fmt::format("{} bytes", head.raw_bytes))
        .Expected(fmt::format("{} bytes", out.size()));
  }
  const ByteView payload = hashed.subspan(kQpackSegmentHeadBytes);
  if (!head.is_stored) {
    if (auto error = DecodePlanes(payload, shape, out)) return error;
  } else if (payload.size() != out.size()) {
    return Bad("stored segment has another length than its bytes");
  } else {
    std::ranges::copy(payload, out.begin());
  }
  if (const uint64_t raw_hash = Xxh3(out); raw_hash != head.raw_hash) {
    return Bad("segment unpacks to other bytes than were packed")
        .Found(HexOf(raw_hash))
        .Expected(HexOf(head.raw_hash));
  }
  return std::nullopt;
}

std::optional<Error> QpackSegmentDecoder::DecodePlanes(ByteView payload, const QpackShape& shape,
                                                       MutableByteView out) {
  const auto Bad = [](std::string_view what, size_t plane) {
    return DataError("qpack.segment", what).Found(fmt::format("plane {}", plane));
  };
  const uint64_t table_bytes = kQpackPlaneEntryBytes * shape.n_planes();
  if (payload.size() < table_bytes) return Bad("table of planes is cut off", 0);
  const uint8_t* entry = payload.data();
  ByteView rest = payload.subspan(table_bytes);
  size_t n_done = 0;  // planes of the groups before
  for (const QpackShape::Group& group : shape.groups()) {
    const PlaneSplit& split = *group.split;
    const bool is_joined = split.n_planes() > 1;
    const bool is_scattered = group.runs.size() > 1;
    const MutableByteView blocks = is_scattered
                                       ? joined_.Room(group.bytes)
                                       : out.subspan(group.runs[0].begin, group.runs[0].bytes);
    // The planes' bytes together are the blocks'.
    MutableByteView unpacked = is_joined ? planes_.Room(group.bytes) : blocks;
    std::array<const uint8_t*, PlaneSplit::kMaxPlanes> planes{};
    for (size_t i = 0; i < split.n_planes(); ++i, entry += kQpackPlaneEntryBytes) {
      const auto n_bytes = LoadLE<uint32_t>(entry) & ~kQpackZstdFlag;
      const bool is_zstd = (LoadLE<uint32_t>(entry) & kQpackZstdFlag) != 0;
      const uint64_t plane_bytes = split.plane_bytes(i, group.n_blocks());
      if (n_bytes > rest.size()) return Bad("plane is longer than its segment", n_done + i);
      const ByteView coded = rest.first(n_bytes);
      rest = rest.subspan(n_bytes);
      const MutableByteView plane = unpacked.first(plane_bytes);
      unpacked = unpacked.subspan(plane_bytes);
      planes[i] = plane.data();
      if (is_zstd) {
        // A frame that is no shorter would have been stored: what is longer only wastes time.
        if (n_bytes >= plane_bytes) return Bad("frame is no shorter than its plane", n_done + i);
        if (!zstd_.Decode(coded, plane)) {
          return Bad("plane is no zstd frame of its length", n_done + i);
        }
      } else {
        if (n_bytes != plane_bytes) return Bad("stored plane has another length", n_done + i);
        planes[i] = coded.data();
        if (!is_joined) std::ranges::copy(coded, plane.begin());
      }
    }
    n_done += split.n_planes();
    if (is_joined) split.Join(planes, blocks);
    if (!is_scattered) continue;
    ByteView joined = blocks;
    for (const auto& run : group.runs) {
      std::ranges::copy(joined.first(run.bytes), out.begin() + run.begin);
      joined = joined.subspan(run.bytes);
    }
  }
  if (!rest.empty()) return Bad("bytes follow the last plane", n_done);
  return std::nullopt;
}

}  // namespace quern
