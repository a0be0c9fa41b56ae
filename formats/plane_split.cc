#include "formats/plane_split.h"

#include <bit>
#include <cstring>
#include <vector>

#include "formats/core/check.h"

namespace quern {
namespace {

// Copies fields of `bytes` bytes between two strides. Lengths that occur are constants to the
// compiler, because a call for 16 bytes costs more than the copy.
template <size_t kBytes>
void CopyFixed(const uint8_t* from, size_t from_stride, uint8_t* to, size_t to_stride, uint64_t n) {
  for (uint64_t i = 0; i < n; ++i, from += from_stride, to += to_stride) {
    std::memcpy(to, from, kBytes);
  }
}

void CopyFields(size_t bytes, const uint8_t* from, size_t from_stride, uint8_t* to,
                size_t to_stride, uint64_t n) {
  if (from_stride == bytes && to_stride == bytes) {
    if (n != 0) std::memcpy(to, from, n * bytes);
    return;
  }
  switch (bytes) {
    case 1:
      return CopyFixed<1>(from, from_stride, to, to_stride, n);
    case 4:
      return CopyFixed<4>(from, from_stride, to, to_stride, n);
    case 8:
      return CopyFixed<8>(from, from_stride, to, to_stride, n);
    case 12:
      return CopyFixed<12>(from, from_stride, to, to_stride, n);
    case 16:
      return CopyFixed<16>(from, from_stride, to, to_stride, n);
    case 32:
      return CopyFixed<32>(from, from_stride, to, to_stride, n);
    case 64:
      return CopyFixed<64>(from, from_stride, to, to_stride, n);
    case 128:
      return CopyFixed<128>(from, from_stride, to, to_stride, n);
    default:
      for (uint64_t i = 0; i < n; ++i, from += from_stride, to += to_stride) {
        std::memcpy(to, from, bytes);
      }
  }
}

// Numbers of type T at `stride`, to and from sizeof(T) planes of `n` bytes. kDense: the stride is
// the number's size, which the compiler vectorises.
template <typename T, int kRotate, bool kDense>
void SplitNumbers(const uint8_t* from, size_t stride, uint64_t n, uint8_t* planes) {
  if (kDense) stride = sizeof(T);
  for (uint64_t i = 0; i < n; ++i) {
    const T x = std::rotl(LoadLE<T>(from + i * stride), kRotate);
    for (size_t k = 0; k < sizeof(T); ++k) planes[k * n + i] = static_cast<uint8_t>(x >> 8 * k);
  }
}

template <typename T, int kRotate, bool kDense>
void JoinNumbers(const uint8_t* const* planes, uint64_t n, uint8_t* to, size_t stride) {
  if (kDense) stride = sizeof(T);
  const uint8_t* plane[sizeof(T)];
  for (size_t k = 0; k < sizeof(T); ++k) plane[k] = planes[k];
  for (uint64_t i = 0; i < n; ++i) {
    T x = 0;
    for (size_t k = 0; k < sizeof(T); ++k) {
      x = static_cast<T>(x | static_cast<T>(static_cast<T>(plane[k][i]) << 8 * k));
    }
    StoreLE(to + i * stride, std::rotr(x, kRotate));
  }
}

template <typename T, bool kDense>
void SplitNumbers(bool rotated, const uint8_t* from, size_t stride, uint64_t n, uint8_t* planes) {
  rotated ? SplitNumbers<T, 1, kDense>(from, stride, n, planes)
          : SplitNumbers<T, 0, kDense>(from, stride, n, planes);
}
template <typename T, bool kDense>
void JoinNumbers(bool rotated, const uint8_t* const* planes, uint64_t n, uint8_t* to,
                 size_t stride) {
  rotated ? JoinNumbers<T, 1, kDense>(planes, n, to, stride)
          : JoinNumbers<T, 0, kDense>(planes, n, to, stride);
}

template <typename T>
void SplitNumbers(bool rotated, const uint8_t* from, size_t stride, uint64_t n, uint8_t* planes) {
  stride == sizeof(T) ? SplitNumbers<T, true>(rotated, from, stride, n, planes)
                      : SplitNumbers<T, false>(rotated, from, stride, n, planes);
}
template <typename T>
void JoinNumbers(bool rotated, const uint8_t* const* planes, uint64_t n, uint8_t* to,
                 size_t stride) {
  stride == sizeof(T) ? JoinNumbers<T, true>(rotated, planes, n, to, stride)
                      : JoinNumbers<T, false>(rotated, planes, n, to, stride);
}

bool IsInteger(DType type) {
  return type == DType::kI8 || type == DType::kI16 || type == DType::kI32 || type == DType::kI64;
}

constexpr BlockLayout kBytes = {DType::kI8, "bytes", 1, 1, 0, {{{FieldKind::kOther, 0, 1}}}, 1};

}  // namespace

PlaneSplit::PlaneSplit(const BlockLayout& layout) : block_bytes_(layout.block_bytes) {
  for (const BlockField& field : layout.fields()) {
    const bool is_number = field.kind == FieldKind::kF16 || field.kind == FieldKind::kF32 ||
                           field.kind == FieldKind::kElement;
    Field& out = fields_[n_fields_++];
    out.offset = field.offset_bytes;
    out.bytes = field.size_bytes;
    out.n_planes = is_number ? field.size_bytes : 1;
    out.is_rotated = is_number && field.size_bytes > 1 && !IsInteger(layout.id);
    for (uint32_t k = 0; k < out.n_planes; ++k) {
      bytes_per_block_[n_planes_++] = field.size_bytes / out.n_planes;
    }
  }
}

const PlaneSplit& PlaneSplit::Of(DType type) {
  static const std::vector<PlaneSplit> splits = [] {
    std::vector<PlaneSplit> all;
    for (const BlockLayout& layout : AllLayouts()) all.emplace_back(layout);
    return all;
  }();
  return splits[static_cast<size_t>(type)];
}

const PlaneSplit& PlaneSplit::OfBytes() {
  static const PlaneSplit split(kBytes);
  return split;
}

void PlaneSplit::Split(ByteView blocks, MutableByteView out) const {
  QUERN_CHECK(blocks.size() % block_bytes_ == 0 && out.size() == blocks.size());
  const uint64_t n = blocks.size() / block_bytes_;
  uint8_t* to = out.data();
  for (size_t i = 0; i < n_fields_; ++i) {
    const Field& field = fields_[i];
    const uint8_t* from = blocks.data() + field.offset;
    switch (field.n_planes) {
      case 2:
        SplitNumbers<uint16_t>(field.is_rotated, from, block_bytes_, n, to);
        break;
      case 4:
        SplitNumbers<uint32_t>(field.is_rotated, from, block_bytes_, n, to);
        break;
      case 8:
        SplitNumbers<uint64_t>(field.is_rotated, from, block_bytes_, n, to);
        break;
      default:
        CopyFields(field.bytes, from, block_bytes_, to, field.bytes, n);
    }
    to += n * field.bytes;
  }
}

void PlaneSplit::Join(const std::array<const uint8_t*, kMaxPlanes>& planes,
                      MutableByteView blocks) const {
  QUERN_CHECK(blocks.size() % block_bytes_ == 0);
  const uint64_t n = blocks.size() / block_bytes_;
  const uint8_t* const* from = planes.data();
  for (size_t i = 0; i < n_fields_; ++i) {
    const Field& field = fields_[i];
    uint8_t* to = blocks.data() + field.offset;
    switch (field.n_planes) {
      case 2:
        JoinNumbers<uint16_t>(field.is_rotated, from, n, to, block_bytes_);
        break;
      case 4:
        JoinNumbers<uint32_t>(field.is_rotated, from, n, to, block_bytes_);
        break;
      case 8:
        JoinNumbers<uint64_t>(field.is_rotated, from, n, to, block_bytes_);
        break;
      default:
        CopyFields(field.bytes, *from, field.bytes, to, block_bytes_, n);
    }
    from += field.n_planes;
  }
}

}  // namespace quern
