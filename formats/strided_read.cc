#include "formats/strided_read.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>
#include <vector>

#include "formats/core/check.h"

namespace quern {
namespace {

constexpr uint64_t kWindowBytes = uint64_t{1} << 20;
// A read of this size costs about as much as a smaller one.
constexpr uint64_t kPageBytes = 4096;

// One dimension of what is copied. Units: elements.
struct Axis {
  uint64_t size = 1;
  uint64_t stride = 0;    // in the file
  uint64_t out_step = 0;  // in the output
};

// Copies elements [0, minor.size) x [0, major.size) from `in` to `out`.
template <size_t kElemBytes>
void Gather(const uint8_t* in, const Axis& minor, const Axis& major, uint8_t* out) {
  if (minor.stride == 1 && minor.out_step == 1) {
    for (uint64_t j = 0; j < major.size; ++j) {
      std::memcpy(out + j * major.out_step * kElemBytes, in + j * major.stride * kElemBytes,
                  minor.size * kElemBytes);
    }
    return;
  }
  // Tiles of some lines, so that a transposition reuses the cache lines it touches.
  constexpr uint64_t kTile = 64;
  for (uint64_t begin = 0; begin < major.size; begin += kTile) {
    const uint64_t end = std::min(begin + kTile, major.size);
    for (uint64_t i = 0; i < minor.size; ++i) {
      for (uint64_t j = begin; j < end; ++j) {
        std::memcpy(out + (i * minor.out_step + j * major.out_step) * kElemBytes,
                    in + (i * minor.stride + j * major.stride) * kElemBytes, kElemBytes);
      }
    }
  }
}

void Gather(uint32_t elem_bytes, const uint8_t* in, const Axis& minor, const Axis& major,
            uint8_t* out) {
  switch (elem_bytes) {
    case 1: return Gather<1>(in, minor, major, out);
    case 2: return Gather<2>(in, minor, major, out);
    case 4: return Gather<4>(in, minor, major, out);
    case 8: return Gather<8>(in, minor, major, out);
    default: QUERN_CHECK(elem_bytes == 16); return Gather<16>(in, minor, major, out);
  }
}

// Copies a rectangle of elements through windows of bounded size.
class RectangleReader {
 public:
  RectangleReader(const RandomAccessBytes& bytes, uint32_t elem_bytes)
      : bytes_(bytes), elem_bytes_(elem_bytes), window_elems_(kWindowBytes / elem_bytes) {}

  // `offset` is the place of the first element in the file.
  void Read(uint64_t offset, const Axis& rows, const Axis& cols, uint8_t* out) {
    const bool cols_run = cols.size == 1 || cols.stride == 1;
    if (cols_run && (rows.size == 1 || rows.stride == cols.size)) {
      bytes_.ReadAt(offset, {out, rows.size * cols.size * elem_bytes_});
      return;
    }
    // Lines run along the axis whose elements lie closer together.
    const bool minor_is_cols = rows.size == 1 || (cols.size > 1 && cols.stride <= rows.stride);
    const Axis& minor = minor_is_cols ? cols : rows;
    const Axis& major = minor_is_cols ? rows : cols;
    const uint64_t line_elems = (minor.size - 1) * minor.stride + 1;
    if (line_elems > window_elems_) {
      for (uint64_t j = 0; j < major.size; ++j) {
        ReadLine(offset + j * major.stride * elem_bytes_, minor,
                 out + j * major.out_step * elem_bytes_);
      }
      return;
    }
    // Lines that lie close together share a read; what lies between them is read in vain.
    const bool is_dense = major.stride <= 2 * line_elems + kPageBytes / elem_bytes_;
    const bool is_run = minor.stride == 1 && minor.out_step == 1;
    uint64_t n_lines = window_elems_ / line_elems;
    if (major.stride == 0) {
      n_lines = major.size;
    } else if (is_dense) {
      n_lines = 1 + (window_elems_ - line_elems) / major.stride;
    }
    for (uint64_t j = 0; j < major.size; j += n_lines) {
      Axis lines = major;
      lines.size = std::min(n_lines, major.size - j);
      const uint64_t place = offset + j * major.stride * elem_bytes_;
      uint8_t* to = out + j * major.out_step * elem_bytes_;
      if (is_dense) {
        ReadWindow(place, minor, lines, to);
      } else if (is_run) {
        ReadRuns(place, minor, lines, to);
      } else {
        ReadLines(place, minor, lines, line_elems, to);
      }
    }
  }

 private:
  // Copies one line that is longer than a window.
  void ReadLine(uint64_t offset, const Axis& line, uint8_t* out) {
    // Elements more than a page apart are read one by one.
    const bool is_sparse = line.stride * elem_bytes_ > kPageBytes;
    const uint64_t n_elems = is_sparse ? 1 : 1 + (window_elems_ - 1) / line.stride;
    for (uint64_t i = 0; i < line.size; i += n_elems) {
      Axis part = line;
      part.size = std::min(n_elems, line.size - i);
      ReadWindow(offset + i * line.stride * elem_bytes_, part, Axis{},
                 out + i * line.out_step * elem_bytes_);
    }
  }

  // Copies lines that are runs in the file and in the output.
  void ReadRuns(uint64_t offset, const Axis& minor, const Axis& major, uint8_t* out) {
    for (uint64_t j = 0; j < major.size; ++j) {
      bytes_.ReadAt(
          offset + j * major.stride * elem_bytes_,
          {out + j * major.out_step * elem_bytes_, static_cast<size_t>(minor.size * elem_bytes_)});
    }
  }

  // Copies lines that lie far apart: reads each for itself and gathers all of them at once.
  void ReadLines(uint64_t offset, const Axis& minor, const Axis& major, uint64_t line_elems,
                 uint8_t* out) {
    window_.resize(major.size * line_elems * elem_bytes_);
    const MutableByteView window(window_);
    for (uint64_t j = 0; j < major.size; ++j) {
      bytes_.ReadAt(offset + j * major.stride * elem_bytes_,
                    window.subspan(j * line_elems * elem_bytes_, line_elems * elem_bytes_));
    }
    Axis packed = major;
    packed.stride = line_elems;
    Gather(elem_bytes_, window_.data(), minor, packed, out);
  }

  void ReadWindow(uint64_t offset, const Axis& minor, const Axis& major, uint8_t* out) {
    const uint64_t n_elems = (minor.size - 1) * minor.stride + (major.size - 1) * major.stride + 1;
    window_.resize(n_elems * elem_bytes_);
    bytes_.ReadAt(offset, window_);
    Gather(elem_bytes_, window_.data(), minor, major, out);
  }

  const RandomAccessBytes& bytes_;
  uint32_t elem_bytes_;
  uint64_t window_elems_;
  std::vector<uint8_t> window_;
};

// Returns the dimensions that number the rows, innermost last, those merged that are one run.
std::vector<Axis> RowAxes(const StridedView& view) {
  std::vector<Axis> axes;
  for (size_t k = 0; k + 1 < view.shape.size(); ++k) {
    const Axis axis{view.shape[k], view.strides[k], 0};
    if (axis.size == 1) continue;
    if (!axes.empty() && axes.back().stride == axis.stride * axis.size) {
      axes.back() = {axes.back().size * axis.size, axis.stride, 0};
    } else {
      axes.push_back(axis);
    }
  }
  if (axes.empty()) axes.push_back(Axis{});
  return axes;
}

}  // namespace

void ReadStridedRows(const RandomAccessBytes& bytes, const StridedView& view, uint64_t row_begin,
                     uint64_t row_count, MutableByteView out) {
  if (out.empty()) return;
  const bool is_scalar = view.shape.empty();
  const Axis cols{is_scalar ? 1 : view.shape.back(), is_scalar ? 1 : view.strides.back(), 1};
  QUERN_CHECK(out.size() == row_count * cols.size * view.elem_bytes);
  const std::vector<Axis> axes = RowAxes(view);
  const Axis& inner = axes.back();
  RectangleReader reader(bytes, view.elem_bytes);
  uint8_t* to = out.data();
  for (uint64_t row = row_begin; row < row_begin + row_count;) {
    // The rows that differ in the innermost index only are one rectangle.
    uint64_t offset_elems = row % inner.size * inner.stride;
    uint64_t rest = row / inner.size;
    for (size_t k = axes.size() - 1; k-- > 0;) {
      offset_elems += rest % axes[k].size * axes[k].stride;
      rest /= axes[k].size;
    }
    const Axis rows{std::min(inner.size - row % inner.size, row_begin + row_count - row),
                    inner.stride, cols.size};
    reader.Read(view.file_offset + offset_elems * view.elem_bytes, rows, cols, to);
    to += rows.size * cols.size * view.elem_bytes;
    row += rows.size;
  }
}

}  // namespace quern
