// Reading rows of a strided view of an array on disk.
#pragma once

#include <cstdint>
#include <span>

#include "formats/core/bytes.h"
#include "formats/core/file.h"

namespace quern {

// An array in a file: element (i0, i1, …) is Σ ik * strides[k] elements behind file_offset.
struct StridedView {
  uint64_t file_offset = 0;  // of the element at index zero
  uint32_t elem_bytes = 0;   // 1, 2, 4, 8 or 16
  std::span<const uint64_t> shape;
  std::span<const uint64_t> strides;  // Units: elements; as many as dimensions
};

// Copies rows [row_begin, row_begin + row_count) of the view, in row-major order; a row is a run of
// the last dimension, and the rows number the other dimensions.
// Rows that are contiguous in the file are one read; others are gathered from reads of at most
// 1 MiB.
// Requires: every element lies in the file; the rows exist; out has exactly their bytes.
// Throws: as RandomAccessBytes::ReadAt.
void ReadStridedRows(const RandomAccessBytes& bytes, const StridedView& view, uint64_t row_begin,
                     uint64_t row_count, MutableByteView out);

}  // namespace quern
