#include "formats/core/stream.h"

#include <algorithm>

#include "formats/core/check.h"

namespace quern {

std::unique_ptr<TensorSource> TensorStore::Walk() const {
  return std::make_unique<StoreWalk>(*this);
}

void TensorSource::SkipTensors(size_t n, MutableByteView scratch) {
  const auto& tensors = manifest().tensors;
  QUERN_CHECK(n <= tensors.size());
  for (size_t i = 0; i < n; ++i) {
    // Tensors without elements have no bands.
    uint64_t rows = tensors[i].size_bytes() == 0 ? 0 : tensors[i].rows();
    while (rows > 0) rows -= Next(scratch)->row_count;
  }
}

std::optional<TensorBand> StoreWalk::Next(MutableByteView out) {
  const auto& tensors = store_.manifest().tensors;
  // Tensors without elements have no bands.
  while (tensor_ < tensors.size() &&
         (row_ == tensors[tensor_].rows() || tensors[tensor_].cols() == 0)) {
    ++tensor_;
    row_ = 0;
  }
  if (tensor_ == tensors.size()) return std::nullopt;
  const TensorInfo& info = tensors[tensor_];
  const uint64_t row_bytes = info.row_bytes();
  QUERN_CHECK(out.size() >= row_bytes);
  const uint64_t count = std::min(info.rows() - row_, out.size() / row_bytes);
  const MutableByteView bytes = out.first(count * row_bytes);
  store_.ReadRows(tensor_, row_, count, bytes);
  const TensorBand band{tensor_, row_, count, bytes};
  row_ += count;
  return band;
}

}  // namespace quern
