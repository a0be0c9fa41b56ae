#include "verify/attention.h"

#include <tbb/blocked_range.h>
#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>

#include "formats/core/check.h"
#include "verify/gemm_portable.h"
#include "verify/ops.h"

namespace quern {
namespace {

// Queries per product: what lies above the diagonal is computed for nothing, half of that many keys
// per query.
constexpr uint64_t kQueryBlock = 96;

}  // namespace

struct Attention::Workspace {
  PackedMatrix keys;     // [head_dim, kKeyBlock], the transpose of the keys
  PackedMatrix values;   // [kKeyBlock, head_dim]
  AlignedFloats scores;  // [kQueryBlock, kKeyBlock]
  AlignedFloats sums;    // [kQueryBlock, head_dim]: of the values of one block
};

struct Attention::Block {
  uint64_t begin, count;
  const float *k, *v;
  uint64_t window_rows;
};

Attention::Attention(const AttentionShape& shape, const float* q, float* out)
    : shape_(shape),
      q_(q),
      out_(out),
      running_(shape.n_windows * shape.n_queries * shape.n_heads) {}

void Attention::Add(uint64_t begin, uint64_t count, const float* k, const float* v,
                    uint64_t window_rows) {
  QUERN_CHECK(begin % kKeyBlock == 0 && count > 0 && count <= kKeyBlock &&
              begin < shape_.query_begin + shape_.n_queries);
  const Block block = {begin, count, k, v, window_rows};
  tbb::enumerable_thread_specific<Workspace> spaces;
  tbb::parallel_for(
      tbb::blocked_range<uint64_t>(0, shape_.n_windows * shape_.n_kv_heads, 1),
      [&](const tbb::blocked_range<uint64_t>& range) {
        Workspace& space = spaces.local();
        for (uint64_t task = range.begin(); task < range.end(); ++task) {
          AddHeadGroup(block, task / shape_.n_kv_heads, task % shape_.n_kv_heads, space);
        }
      },
      tbb::simple_partitioner());
}

// One window and one key head.
void Attention::AddHeadGroup(const Block& block, uint64_t window, uint64_t kv_head,
                             Workspace& space) {
  const uint64_t dim = shape_.head_dim;
  const uint64_t q_stride = shape_.n_heads * dim;
  const uint64_t kv_stride = shape_.n_kv_heads * dim;
  const uint64_t end = std::min(block.begin + block.count, shape_.query_begin + shape_.n_queries);
  const uint64_t n_keys = end - block.begin;  // Later ones are never looked at.
  const uint64_t kv_offset = window * block.window_rows * kv_stride + kv_head * dim;
  space.keys.PackTransposed(block.k + kv_offset, kv_stride, n_keys, dim);
  space.values.Pack(block.v + kv_offset, kv_stride, n_keys, dim);
  space.scores.Reserve(kQueryBlock * n_keys);
  space.sums.Reserve(kQueryBlock * dim);
  float* scores = space.scores.data();
  const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(dim)));

  const bool first_block = block.begin == 0;
  // Queries before the block's first key see none of it.
  const uint64_t first_query =
      block.begin > shape_.query_begin ? block.begin - shape_.query_begin : 0;
  const uint64_t group = shape_.n_heads / shape_.n_kv_heads;
  for (uint64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (uint64_t first = first_query; first < shape_.n_queries; first += kQueryBlock) {
      const uint64_t n_rows = std::min(kQueryBlock, shape_.n_queries - first);
      // Keys of the block up to the position of the last of these queries.
      const uint64_t visible = std::min(n_keys, shape_.query_begin + first + n_rows - block.begin);
      const uint64_t row = window * shape_.n_queries + first;
      const uint64_t offset = row * q_stride + head * dim;
      space.keys.MultiplyPart(q_ + offset, q_stride, n_rows, dim, visible, scores, visible);
      for (uint64_t r = 0; r < n_rows; ++r) {
        float* own = scores + r * visible;
        const uint64_t n_own = std::min(visible, shape_.query_begin + first + r + 1 - block.begin);
        const ExpSums sums = ExpShifted(own, n_own, scale);
        std::fill(own + n_own, own + visible, 0.0f);
        Running& running = running_[(row + r) * shape_.n_heads + head];
        if (first_block) {
          running = {sums.max, sums.sum};
          continue;
        }
        // Both parts as shares of the larger maximum: what was there, and what comes.
        const float max = std::max(running.max, sums.max);
        const float before = std::exp(running.max - max), now = std::exp(sums.max - max);
        running = {max, running.sum * double{before} + sums.sum * double{now}};
        float* out = out_ + offset + r * q_stride;
        for (uint64_t d = 0; d < dim; ++d) out[d] *= before;
        for (uint64_t j = 0; j < n_own; ++j) own[j] *= now;
      }
      if (first_block) {
        space.values.MultiplyPart(scores, visible, n_rows, visible, dim, out_ + offset, q_stride);
        continue;
      }
      space.values.MultiplyPart(scores, visible, n_rows, visible, dim, space.sums.data(), dim);
      for (uint64_t r = 0; r < n_rows; ++r) {
        AddTo(out_ + offset + r * q_stride, space.sums.data() + r * dim, dim);
      }
    }
  }
}

void Attention::Finish() {
  const uint64_t n_rows = shape_.n_windows * shape_.n_queries;
  tbb::parallel_for(uint64_t{0}, n_rows, [&](uint64_t row) {
    for (uint64_t head = 0; head < shape_.n_heads; ++head) {
      const auto share = static_cast<float>(1 / running_[row * shape_.n_heads + head].sum);
      float* out = out_ + (row * shape_.n_heads + head) * shape_.head_dim;
      for (uint64_t d = 0; d < shape_.head_dim; ++d) out[d] *= share;
    }
  });
}

uint64_t Attention::WorkspaceBytes(uint64_t context, uint64_t head_dim) {
  const uint64_t n_keys = std::min(context, kKeyBlock);
  return ((2 * head_dim + kQueryBlock) * n_keys + kQueryBlock * head_dim) * sizeof(float);
}

uint64_t Attention::QueryBytes(uint64_t n_heads) { return n_heads * sizeof(Running); }

}  // namespace quern
