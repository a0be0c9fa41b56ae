#include "verify/attention.h"

#include <tbb/blocked_range.h>
#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>

#include "verify/gemm_portable.h"
#include "verify/ops.h"

namespace quern {
namespace {

// Queries per product: what lies above the diagonal is computed for nothing, half of that many keys
// per query.
constexpr uint64_t kQueryBlock = 96;

struct Workspace {
  PackedMatrix keys;     // [head_dim, context], the transpose of the keys
  PackedMatrix values;   // [context, head_dim]
  AlignedFloats scores;  // [kQueryBlock, context]
};

// One window and one key head.
void AttendHeadGroup(const AttentionShape& shape, uint64_t window, uint64_t kv_head, const float* q,
                     const float* k, const float* v, float* out, Workspace& space) {
  const uint64_t dim = shape.head_dim;
  const uint64_t q_stride = shape.n_heads * dim;
  const uint64_t kv_stride = shape.n_kv_heads * dim;
  const uint64_t n_keys = shape.query_begin + shape.n_queries;  // Later ones are never looked at.
  const uint64_t kv_offset = window * shape.context * kv_stride + kv_head * dim;
  space.keys.PackTransposed(k + kv_offset, kv_stride, n_keys, dim);
  space.values.Pack(v + kv_offset, kv_stride, n_keys, dim);
  space.scores.Reserve(kQueryBlock * n_keys);
  float* scores = space.scores.data();
  const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(dim)));

  const uint64_t group = shape.n_heads / shape.n_kv_heads;
  for (uint64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (uint64_t first = 0; first < shape.n_queries; first += kQueryBlock) {
      const uint64_t n_rows = std::min(kQueryBlock, shape.n_queries - first);
      const uint64_t visible = shape.query_begin + first + n_rows;  // to the block's last query
      const uint64_t row_offset = (window * shape.n_queries + first) * q_stride + head * dim;
      space.keys.MultiplyPart(q + row_offset, q_stride, n_rows, dim, visible, scores, visible);
      for (uint64_t r = 0; r < n_rows; ++r) {
        const uint64_t own = shape.query_begin + first + r + 1;  // keys up to the query's position
        Softmax(scores + r * visible, own, scale);
        std::fill(scores + r * visible + own, scores + (r + 1) * visible, 0.0f);
      }
      space.values.MultiplyPart(scores, visible, n_rows, visible, dim, out + row_offset, q_stride);
    }
  }
}

}  // namespace

void Attend(const AttentionShape& shape, const float* q, const float* k, const float* v,
            float* out) {
  tbb::enumerable_thread_specific<Workspace> spaces;
  tbb::parallel_for(
      tbb::blocked_range<uint64_t>(0, shape.n_windows * shape.n_kv_heads, 1),
      [&](const tbb::blocked_range<uint64_t>& range) {
        Workspace& space = spaces.local();
        for (uint64_t task = range.begin(); task < range.end(); ++task) {
          AttendHeadGroup(shape, task / shape.n_kv_heads, task % shape.n_kv_heads, q, k, v, out,
                          space);
        }
      },
      tbb::simple_partitioner());
}

uint64_t AttentionWorkspaceBytes(uint64_t context, uint64_t head_dim) {
  return (2 * head_dim + kQueryBlock) * context * sizeof(float);
}

}  // namespace quern
