#include "formats/qpack_segment.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "formats/core/check.h"
#include "formats/core/hash.h"
#include "formats/qpack_format.h"

namespace quern {
namespace {

// What is tried on a plane at each level; the shortest is kept.
constexpr int kWeightLevels[][2] = {
    {kZstdLiteralsOnly, kZstdLiteralsOnly}, {kZstdLiteralsOnly, 5}, {kZstdLiteralsOnly, 19}};
// Headers and what is behind the tensors are texts and tables: there matches pay.
constexpr int kByteLevels[] = {6, 12, 19};
static_assert(std::size(kWeightLevels) == kQpackMaxLevel &&
              std::size(kByteLevels) == kQpackMaxLevel);

// A plane that shrinks by less than this part of it is stored, which is faster to read.
constexpr size_t kLeastGain = 64;

template <typename T>
void Append(T value, std::vector<uint8_t>& out) {
  out.resize(out.size() + sizeof(T));
  StoreLE(out.data() + out.size() - sizeof(T), value);
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

void QpackSegmentEncoder::Encode(ByteView raw, const PlaneSplit& split, uint64_t index, int level,
                                 bool store_only, std::vector<uint8_t>& out) {
  QUERN_CHECK(level >= kQpackMinLevel && level <= kQpackMaxLevel);
  QUERN_CHECK(!raw.empty() && raw.size() % split.block_bytes() == 0);
  const uint64_t n_blocks = raw.size() / split.block_bytes();
  out.clear();
  Append(static_cast<uint32_t>(raw.size()), out);
  Append(uint32_t{0}, out);  // of the payload, once known
  Append(Xxh3(raw), out);
  const size_t table = out.size();
  out.resize(table + kQpackPlaneEntryBytes * split.n_planes());
  ByteView planes = raw;
  if (split.n_planes() > 1) {
    planes_.resize(raw.size());
    split.Split(raw, planes_);
    planes = planes_;
  }
  for (size_t i = 0; i < split.n_planes(); ++i) {
    const ByteView plane = planes.first(split.plane_bytes(i, n_blocks));
    planes = planes.subspan(plane.size());
    const size_t before = out.size();
    const bool is_zstd = EncodePlane(plane, split, level, store_only, out);
    StoreLE(&out[table + kQpackPlaneEntryBytes * i],
            static_cast<uint32_t>(out.size() - before) | (is_zstd ? kQpackZstdFlag : 0));
  }
  StoreLE(&out[4], static_cast<uint32_t>(out.size() - kQpackSegmentHeadBytes));
  Append(HashOf(out, index), out);
}

// Appends the coded plane; returns true if it is a zstd frame.
bool QpackSegmentEncoder::EncodePlane(ByteView plane, const PlaneSplit& split, int level,
                                      bool store_only, std::vector<uint8_t>& out) {
  size_t best_bytes = plane.size() - plane.size() / kLeastGain;
  bool is_zstd = false;
  const bool is_weights = &split != &PlaneSplit::OfBytes();
  frame_.resize(ZstdEncoder::Bound(plane.size()));
  int last = -1;
  for (int attempt = 0; attempt < (is_weights ? 2 : 1) && !store_only; ++attempt) {
    const int zstd_level = is_weights ? kWeightLevels[level - 1][attempt] : kByteLevels[level - 1];
    if (zstd_level == last) break;
    last = zstd_level;
    const size_t n_bytes = zstd_.Encode(plane, zstd_level, frame_);
    if (n_bytes >= best_bytes) continue;
    best_bytes = n_bytes;
    best_.assign(frame_.begin(), frame_.begin() + static_cast<ptrdiff_t>(n_bytes));
    is_zstd = true;
  }
  const ByteView coded = is_zstd ? ByteView(best_) : plane;
  out.insert(out.end(), coded.begin(), coded.end());
  return is_zstd;
}

std::optional<Error> QpackSegmentDecoder::Decode(ByteView segment, const PlaneSplit& split,
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
  if (auto error = DecodePlanes(hashed.subspan(kQpackSegmentHeadBytes), split, out)) return error;
  if (const uint64_t raw_hash = Xxh3(out); raw_hash != head.raw_hash) {
    return Bad("segment unpacks to other bytes than were packed")
        .Found(HexOf(raw_hash))
        .Expected(HexOf(head.raw_hash));
  }
  return std::nullopt;
}

std::optional<Error> QpackSegmentDecoder::DecodePlanes(ByteView payload, const PlaneSplit& split,
                                                       MutableByteView out) {
  const auto Bad = [](std::string_view what, size_t plane) {
    return DataError("qpack.segment", what).Found(fmt::format("plane {}", plane));
  };
  const uint64_t n_blocks = out.size() / split.block_bytes();
  const uint64_t table_bytes = kQpackPlaneEntryBytes * split.n_planes();
  if (payload.size() < table_bytes) return Bad("table of planes is cut off", 0);
  const ByteView table = payload.first(table_bytes);
  ByteView rest = payload.subspan(table_bytes);
  const bool is_joined = split.n_planes() > 1;
  if (is_joined) planes_.resize(out.size());
  // The planes' bytes together are the piece's.
  MutableByteView unpacked = is_joined ? MutableByteView(planes_) : out;
  std::array<const uint8_t*, PlaneSplit::kMaxPlanes> planes{};
  for (size_t i = 0; i < split.n_planes(); ++i) {
    const uint32_t entry = LoadLE<uint32_t>(&table[kQpackPlaneEntryBytes * i]);
    const uint32_t n_bytes = entry & ~kQpackZstdFlag;
    const uint64_t plane_bytes = split.plane_bytes(i, n_blocks);
    if (n_bytes > rest.size()) return Bad("plane is longer than its segment", i);
    const ByteView coded = rest.first(n_bytes);
    rest = rest.subspan(n_bytes);
    const MutableByteView plane = unpacked.first(plane_bytes);
    unpacked = unpacked.subspan(plane_bytes);
    planes[i] = plane.data();
    if ((entry & kQpackZstdFlag) != 0) {
      // A frame that is no shorter would have been stored: what is longer only wastes time.
      if (n_bytes >= plane_bytes) return Bad("frame is no shorter than its plane", i);
      if (!zstd_.Decode(coded, plane)) return Bad("plane is no zstd frame of its length", i);
    } else {
      if (n_bytes != plane_bytes) return Bad("stored plane has another length", i);
      if (is_joined) {
        planes[i] = coded.data();
      } else if (n_bytes != 0) {
        std::memcpy(plane.data(), coded.data(), n_bytes);
      }
    }
  }
  if (!rest.empty()) return Bad("bytes follow the last plane", split.n_planes());
  if (is_joined) split.Join(planes, out);
  return std::nullopt;
}

}  // namespace quern
