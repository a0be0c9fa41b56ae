#include "formats/core/shape.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "formats/core/check.h"
#include "formats/core/checked.h"

namespace quern {

Shape::Shape(std::initializer_list<uint64_t> dims) {
  const auto made = Make({dims.begin(), dims.size()});
  QUERN_CHECK(made.has_value());
  *this = *made;
}

std::optional<Shape> Shape::Make(std::span<const uint64_t> dims) {
  if (dims.size() > kMaxRank) return std::nullopt;
  Shape shape;
  uint64_t product = 1;
  for (const uint64_t dim : dims) {
    const auto next = CheckedMul(product, std::max<uint64_t>(dim, 1));
    if (!next || *next > uint64_t{1} << 62) return std::nullopt;
    product = *next;
    shape.dims_[shape.rank_++] = dim;
  }
  return shape;
}

uint64_t Shape::n_elems() const { return rows() * cols(); }

uint64_t Shape::rows() const {
  uint64_t product = 1;
  for (size_t i = 0; i + 1 < rank_; ++i) product *= dims_[i];
  return product;
}

std::string Shape::ToString() const { return ShapeText({dims_.data(), rank_}); }

std::string ShapeText(std::span<const uint64_t> dims) {
  return fmt::format("[{}]", fmt::join(dims, ", "));
}

}  // namespace quern
