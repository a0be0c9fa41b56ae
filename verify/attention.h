// Causal attention with grouped queries, over windows that know nothing of each other.
#pragma once

#include <cstdint>

namespace quern {

struct AttentionShape {
  uint64_t n_windows = 0;
  uint64_t context = 0;      // keys per window
  uint64_t query_begin = 0;  // position of a window's first query
  uint64_t n_queries = 0;    // queries per window; query_begin + n_queries <= context
  uint64_t n_heads = 0;
  uint64_t n_kv_heads = 0;   // divides n_heads
  uint64_t head_dim = 0;
};

// Writes, for every query and head, softmax(q k^T / sqrt(head_dim)) v over the keys up to the
// query's own position. Query head h uses key head h / (n_heads / n_kv_heads).
// Shape: q, out [n_windows * n_queries, n_heads * head_dim];
// k, v [n_windows * context, n_kv_heads * head_dim]. `out` overlaps nothing.
// Work runs in the caller's oneTBB arena, a task per window and key head.
// Source: "Attention Is All You Need", arXiv 1706.03762; "GQA", arXiv 2305.13245.
void Attend(const AttentionShape& shape, const float* q, const float* k, const float* v,
            float* out);

// Returns the bytes that one thread works with. Units: bytes.
uint64_t AttentionWorkspaceBytes(uint64_t context, uint64_t head_dim);

}  // namespace quern
