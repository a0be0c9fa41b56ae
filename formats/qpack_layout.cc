#include "formats/qpack_layout.h"

#include <algorithm>

#include "formats/core/check.h"

namespace quern {

size_t QpackShape::n_planes() const {
  size_t n = 0;
  for (const Group& group : groups_) n += group.split->n_planes();
  return n;
}

void QpackShape::Add(const PlaneSplit& split, Run run) {
  if (run.bytes == 0) return;
  auto group = std::ranges::find(groups_, &split, &Group::split);
  if (group == groups_.end()) {
    // Splits of types stand in one table, in the order of the types.
    const auto is_before = [](const PlaneSplit* a, const PlaneSplit* b) {
      if (a == &PlaneSplit::OfBytes() || b == &PlaneSplit::OfBytes()) {
        return a == &PlaneSplit::OfBytes();
      }
      return a < b;
    };
    group = groups_.insert(std::ranges::lower_bound(groups_, &split, is_before, &Group::split),
                           {&split, 0, {}});
  }
  group->bytes += run.bytes;
  group->runs.push_back(run);
}

size_t QpackLayout::ExtentBehind(uint64_t offset) const {
  const auto& extents = outline_.extents;
  return static_cast<size_t>(std::ranges::upper_bound(extents, offset, {}, &GgufExtent::end) -
                             extents.begin());
}

QpackPiece QpackLayout::PieceAt(uint64_t segment, uint64_t begin, uint64_t gguf_bytes) const {
  QUERN_CHECK(begin < gguf_bytes);
  uint64_t end = begin + std::min<uint64_t>(segment_bytes_, gguf_bytes - begin);
  if (begin < outline_.header_bytes) {
    end = std::min(end, outline_.header_bytes);
  } else if (const size_t i = ExtentBehind(end); i < outline_.extents.size()) {
    const GgufExtent& extent = outline_.extents[i];
    if (extent.begin < end) {
      // Blocks stay whole. A segment takes several blocks of every type.
      const uint32_t block_bytes = LayoutOf(extent.type).block_bytes;
      end -= (end - extent.begin) % block_bytes;
    }
  }
  return {segment, begin, static_cast<uint32_t>(end - begin)};
}

QpackShape QpackLayout::ShapeOf(const QpackPiece& piece) const {
  QpackShape shape;
  uint64_t at = piece.begin;
  const auto AddUntil = [&](uint64_t end, const PlaneSplit& split) {
    shape.Add(split, {static_cast<uint32_t>(at - piece.begin), static_cast<uint32_t>(end - at)});
    at = end;
  };
  for (size_t i = ExtentBehind(at); at < piece.end(); ++i) {
    if (i == outline_.extents.size() || outline_.extents[i].begin >= piece.end()) {
      AddUntil(piece.end(), PlaneSplit::OfBytes());
      break;
    }
    const GgufExtent& extent = outline_.extents[i];
    if (extent.begin > at) AddUntil(extent.begin, PlaneSplit::OfBytes());
    AddUntil(std::min(extent.end(), piece.end()), PlaneSplit::Of(extent.type));
  }
  return shape;
}

QpackLayout::Tensors QpackLayout::TensorsIn(const QpackPiece& piece) const {
  Tensors tensors;
  for (size_t i = ExtentBehind(piece.begin); i < outline_.extents.size(); ++i) {
    const GgufExtent& extent = outline_.extents[i];
    if (extent.begin >= piece.end()) break;
    if (tensors.n++ == 0) tensors.first = outline_.names[extent.tensor];
  }
  return tensors;
}

}  // namespace quern
