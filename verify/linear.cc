#include "verify/linear.h"

#include <tbb/blocked_range.h>
#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "formats/core/check.h"
#include "verify/ops.h"

namespace quern {
namespace {

// Rows of a matrix per task: enough that decoding and packing are a small part of the work, few
// enough that the tile stays near the core and small models still make several tasks.
constexpr uint64_t kTileRows = 128;
// Rows of activations per product: the block of results stays in the second-level cache.
constexpr uint64_t kBlockRows = 512;

// What one thread works with.
struct Workspace {
  explicit Workspace(Product product) : tiles{WeightTile(product), WeightTile(product)} {}
  std::vector<uint8_t> stored;          // [kTileRows, row_bytes]
  AlignedFloats decoded;                // [kTileRows, cols]
  std::array<WeightTile, 2> tiles;      // as the product reads them
  std::array<AlignedFloats, 2> blocks;  // [kBlockRows, kTileRows] each
};

}  // namespace

struct LinearWorkspaces {
  explicit LinearWorkspaces(Product product)
      : per_thread([product] { return Workspace(product); }) {}
  tbb::enumerable_thread_specific<Workspace> per_thread;
};

std::shared_ptr<LinearWorkspaces> MakeWorkspaces(Product product) {
  return std::make_shared<LinearWorkspaces>(product);
}

Linear::Linear(const TensorStore& store, Product product,
               std::shared_ptr<LinearWorkspaces> workspaces)
    : store_(store),
      product_(product),
      workspaces_(workspaces ? std::move(workspaces) : MakeWorkspaces(product)) {}

uint64_t Linear::WorkspaceBytes(uint64_t max_cols) {
  const uint64_t tile_bytes = kTileRows * max_cols * sizeof(float);
  return 4 * tile_bytes + 2 * kBlockRows * kTileRows * sizeof(float);
}

void Linear::Decode(const StoredMatrix& matrix, uint64_t begin, uint64_t count, float* out) const {
  std::vector<uint8_t>& stored = workspaces_->per_thread.local().stored;
  stored.resize(std::max(stored.size(), static_cast<size_t>(count * matrix.row_bytes)));
  const MutableByteView bytes(stored.data(), count * matrix.row_bytes);
  store_.ReadRows(matrix.tensor, begin, count, bytes);
  matrix.codec->decode(bytes.data(), count * matrix.cols, out);
}

std::vector<float> Linear::DecodeVector(const StoredMatrix& vector) const {
  std::vector<float> values(vector.cols);
  Decode(vector, 0, 1, values.data());
  return values;
}

ProductRows Linear::RowsFor(Activations x, std::vector<uint16_t>& rounded) const {
  if (product_ != Product::kOneDnnBF16) return {.f32 = x.data, .stride = x.cols};
  rounded.resize(x.rows * x.cols);
  tbb::parallel_for(uint64_t{0}, x.rows, [&](uint64_t row) {
    RoundToBF16(x.data + row * x.cols, x.cols, rounded.data() + row * x.cols);
  });
  return {.bf16 = rounded.data(), .stride = x.cols};
}

uint64_t Linear::InputBytes(uint64_t cols) const {
  return product_ == Product::kOneDnnBF16 ? cols * sizeof(uint16_t) : 0;
}

void Linear::ForEachBlock(std::span<const StoredMatrix> matrices, uint64_t begin, uint64_t count,
                          Activations x, const Sink& sink) const {
  const uint64_t n_tiles = (count + kTileRows - 1) / kTileRows;
  const uint64_t cols = x.cols;
  std::vector<uint16_t> rounded;
  const ProductRows rows = RowsFor(x, rounded);
  const auto do_tile = [&](uint64_t tile) {
    const uint64_t first = tile * kTileRows;
    const uint64_t n_rows = std::min(kTileRows, count - first);
    Workspace& space = workspaces_->per_thread.local();
    space.decoded.Reserve(kTileRows * cols);
    for (size_t i = 0; i < matrices.size(); ++i) {
      space.blocks[i].Reserve(kBlockRows * kTileRows);
      Decode(matrices[i], begin + first, n_rows, space.decoded.data());
      space.tiles[i].Fill(space.decoded.data(), n_rows, cols);
    }
    for (uint64_t row = 0; row < x.rows; row += kBlockRows) {
      const uint64_t block_rows = std::min(kBlockRows, x.rows - row);
      for (size_t i = 0; i < matrices.size(); ++i) {
        space.tiles[i].Multiply(rows.From(row), block_rows, space.blocks[i].data(), kTileRows);
      }
      sink({row, block_rows, first, n_rows, {space.blocks[0].data(), space.blocks[1].data()}});
    }
  };
  tbb::parallel_for(
      tbb::blocked_range<uint64_t>(0, n_tiles, 1),
      [&](const tbb::blocked_range<uint64_t>& range) {
        for (uint64_t tile = range.begin(); tile < range.end(); ++tile) do_tile(tile);
      },
      tbb::simple_partitioner());
}

void Linear::MultiplyRows(const StoredMatrix& matrix, uint64_t begin, uint64_t count, Activations x,
                          float* y) const {
  QUERN_CHECK(x.cols == matrix.cols && begin + count <= matrix.rows);
  ForEachBlock({&matrix, 1}, begin, count, x, [&](const Block& block) {
    for (uint64_t r = 0; r < block.n_rows; ++r) {
      std::memcpy(y + (block.row + r) * count + block.col, block.values[0] + r * kTileRows,
                  block.n_cols * sizeof(float));
    }
  });
}

void Linear::Multiply(const StoredMatrix& matrix, Activations x, float* y) const {
  MultiplyRows(matrix, 0, matrix.rows, x, y);
}

void Linear::MultiplyAdd(const StoredMatrix& matrix, Activations x, float* y) const {
  QUERN_CHECK(x.cols == matrix.cols);
  ForEachBlock({&matrix, 1}, 0, matrix.rows, x, [&](const Block& block) {
    for (uint64_t r = 0; r < block.n_rows; ++r) {
      AddTo(y + (block.row + r) * matrix.rows + block.col, block.values[0] + r * kTileRows,
            block.n_cols);
    }
  });
}

void Linear::MultiplySwiGlu(const StoredMatrix& gate, const StoredMatrix& up, Activations x,
                            float* y) const {
  QUERN_CHECK(x.cols == gate.cols && x.cols == up.cols && gate.rows == up.rows);
  const std::array<StoredMatrix, 2> both = {gate, up};
  ForEachBlock(both, 0, gate.rows, x, [&](const Block& block) {
    for (uint64_t r = 0; r < block.n_rows; ++r) {
      float* out = y + (block.row + r) * gate.rows + block.col;
      std::memcpy(out, block.values[0] + r * kTileRows, block.n_cols * sizeof(float));
      SwiGlu(out, block.values[1] + r * kTileRows, block.n_cols);
    }
  });
}

}  // namespace quern
