// The shape of a tensor, outermost dimension first, the last one contiguous.
// (GGUF's reversed order exists only in gguf_*.cc.)
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>

namespace quern {

class Shape {
 public:
  static constexpr size_t kMaxRank = 4;

  Shape() = default;  // Rank 0: a scalar, one element.
  // Throws: Error kBug if `dims` has more than four entries or too many elements; for numbers from
  // a file use Make.
  Shape(std::initializer_list<uint64_t> dims);
  // Returns the shape, or nothing if the rank is above four or the number of elements does not fit
  // 63 bits. (Dimensions of zero count as one in that product, so that no order of dims hides an
  // overflow.)
  static std::optional<Shape> Make(std::span<const uint64_t> dims);

  size_t rank() const { return rank_; }
  uint64_t dim(size_t i) const { return dims_[i]; }
  uint64_t n_elems() const;
  // The last dimension; 1 for a scalar.
  uint64_t cols() const { return rank_ == 0 ? 1 : dims_[rank_ - 1]; }
  // The product of all dimensions but the last; 1 for vectors and scalars.
  uint64_t rows() const;

  // Returns for instance "[32000, 4096]".
  std::string ToString() const;
  bool operator==(const Shape&) const = default;

 private:
  std::array<uint64_t, kMaxRank> dims_{};
  size_t rank_ = 0;
};

// Returns the same for dimensions that are no Shape (yet).
std::string ShapeText(std::span<const uint64_t> dims);

}  // namespace quern
