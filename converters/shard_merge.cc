#include "converters/shard_merge.h"

#include <algorithm>
#include <cstring>

namespace quern {
namespace {

constexpr uint64_t kSliceBytes = 1u << 20;

void ReadByRows(const MergedTensor& tensor, std::span<const TorchCheckpoint> shards,
                uint64_t begin, uint64_t count, MutableByteView out) {
  const uint64_t shard_rows = tensor.slices[0]->rows(), row_bytes = tensor.row_bytes();
  while (count > 0) {
    const uint64_t shard = begin / shard_rows, first = begin % shard_rows;
    const uint64_t n = std::min(count, shard_rows - first);
    shards[shard].ReadRows(*tensor.slices[shard], first, n, out.first(n * row_bytes));
    out = out.subspan(n * row_bytes);
    begin += n;
    count -= n;
  }
}

void ReadByColumns(const MergedTensor& tensor, std::span<const TorchCheckpoint> shards,
                   uint64_t begin, uint64_t count, MutableByteView out) {
  const uint64_t slice_bytes = tensor.slices[0]->row_bytes(), row_bytes = tensor.row_bytes();
  if (row_bytes == 0) return;
  const uint64_t rows_at_once = std::clamp<uint64_t>(kSliceBytes / slice_bytes, 1, count);
  std::vector<uint8_t> slice(rows_at_once * slice_bytes);  // [rows_at_once, cols / n_shards]
  for (uint64_t done = 0; done < count;) {
    const uint64_t n = std::min(rows_at_once, count - done);
    for (size_t shard = 0; shard < shards.size(); ++shard) {
      const MutableByteView bytes(slice.data(), n * slice_bytes);
      shards[shard].ReadRows(*tensor.slices[shard], begin + done, n, bytes);
      for (uint64_t row = 0; row < n; ++row) {
        std::memcpy(&out[(done + row) * row_bytes + shard * slice_bytes],
                    &slice[row * slice_bytes], slice_bytes);
      }
    }
    done += n;
  }
}

}  // namespace

uint64_t MergedTensor::rows() const {
  return slices[0]->rows() * (split == ShardSplit::kRows ? slices.size() : 1);
}

uint64_t MergedTensor::cols() const {
  return slices[0]->cols() * (split == ShardSplit::kColumns ? slices.size() : 1);
}

void ReadMergedRows(const MergedTensor& tensor, std::span<const TorchCheckpoint> shards,
                    uint64_t begin, uint64_t count, MutableByteView out) {
  if (count == 0) return;
  if (tensor.split == ShardSplit::kReplicated) {
    shards[0].ReadRows(*tensor.slices[0], begin, count, out);
  } else if (tensor.split == ShardSplit::kRows || shards.size() == 1) {
    ReadByRows(tensor, shards, begin, count, out);
  } else {
    ReadByColumns(tensor, shards, begin, count, out);
  }
}

MergedPlace PlaceOfMerged(const MergedTensor& tensor, std::span<const TorchCheckpoint> shards,
                          uint64_t row, uint64_t col) {
  const TorchTensor& slice = *tensor.slices[0];
  size_t shard = 0;
  if (tensor.split == ShardSplit::kRows) {
    shard = row / slice.rows();
    row %= slice.rows();
  } else if (tensor.split == ShardSplit::kColumns) {
    shard = col / slice.cols();
    col %= slice.cols();
  }
  return {shard, ByteOffsetOf(shards[shard], *tensor.slices[shard], row, col)};
}

uint64_t ByteOffsetOf(const TorchCheckpoint& shard, const TorchTensor& tensor, uint64_t row,
                      uint64_t col) {
  uint64_t elem = tensor.storage_offset_elems;
  if (!tensor.strides.empty()) elem += col * tensor.strides.back();
  if (tensor.strides.size() > 1) elem += row * tensor.strides[tensor.strides.size() - 2];
  return shard.storages()[tensor.storage].file_offset + elem * tensor.elem_bytes;
}

}  // namespace quern
