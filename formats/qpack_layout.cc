#include "formats/qpack_layout.h"

#include <algorithm>

#include "formats/core/check.h"

namespace quern {
namespace {

constexpr uint64_t CeilDiv(uint64_t a, uint64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

}  // namespace

QpackLayout::QpackLayout(const GgufHeader& header, uint32_t segment_bytes)
    : segment_bytes_(segment_bytes) {
  Add(header.header_bytes, PlaneSplit::OfBytes(), std::nullopt);
  for (size_t i = 0; i < header.tensors.size(); ++i) {
    const uint64_t n_bytes = header.tensors[i].size_bytes();
    if (n_bytes == 0) continue;
    const uint64_t begin = header.data_offset + header.offsets[i];
    Add(begin, PlaneSplit::OfBytes(), std::nullopt);  // padding
    Add(begin + n_bytes, PlaneSplit::Of(header.tensors[i].dtype), i);
  }
}

void QpackLayout::Add(uint64_t end, const PlaneSplit& split, std::optional<size_t> tensor) {
  QUERN_CHECK(end >= tail_begin_);
  if (end == tail_begin_) return;
  const uint32_t piece_bytes = segment_bytes_ / split.block_bytes() * split.block_bytes();
  regions_.push_back(
      {tail_begin_, end - tail_begin_, n_fixed_segments_, piece_bytes, &split, tensor});
  n_fixed_segments_ += CeilDiv(end - tail_begin_, piece_bytes);
  tail_begin_ = end;
}

uint64_t QpackLayout::n_segments(uint64_t gguf_bytes) const {
  QUERN_CHECK(gguf_bytes >= tail_begin_);
  return n_fixed_segments_ + CeilDiv(gguf_bytes - tail_begin_, segment_bytes_);
}

QpackPiece QpackLayout::PieceAt(uint64_t offset, uint64_t gguf_bytes) const {
  QUERN_CHECK(offset < gguf_bytes);
  Region tail{tail_begin_,
              gguf_bytes - std::min(gguf_bytes, tail_begin_),
              n_fixed_segments_,
              segment_bytes_,
              &PlaneSplit::OfBytes(),
              std::nullopt};
  const Region* region = &tail;
  if (offset < tail_begin_) {
    // The last one that begins at or before the offset.
    region = &*std::prev(std::ranges::upper_bound(regions_, offset, {}, &Region::begin));
  }
  const uint64_t index = (offset - region->begin) / region->piece_bytes;
  const uint64_t begin = index * region->piece_bytes;
  return {region->first_segment + index, region->begin + begin,
          static_cast<uint32_t>(std::min<uint64_t>(region->piece_bytes, region->bytes - begin)),
          region->split, region->tensor};
}

}  // namespace quern
