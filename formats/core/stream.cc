#include "formats/core/stream.h"

#include <algorithm>

#include "formats/core/check.h"
#include "formats/core/hash.h"

namespace quern {

std::unique_ptr<TensorSource> TensorStore::Walk() const {
  return std::make_unique<StoreWalk>(*this);
}

uint64_t TensorStore::HashTensor(size_t tensor) const {
  constexpr uint64_t kReadBytes = uint64_t{1} << 20;
  const TensorInfo& info = manifest().tensors[tensor];
  Xxh3Stream hash;
  if (info.size_bytes() == 0) return hash.Digest();
  const uint64_t step = std::max<uint64_t>(1, kReadBytes / info.row_bytes());
  std::vector<uint8_t> buffer(std::min(step, info.rows()) * info.row_bytes());
  for (uint64_t row = 0; row < info.rows();) {
    const uint64_t n_rows = std::min(step, info.rows() - row);
    const MutableByteView bytes = MutableByteView(buffer).first(n_rows * info.row_bytes());
    ReadRows(tensor, row, n_rows, bytes);
    hash.Update(bytes);
    row += n_rows;
  }
  return hash.Digest();
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
