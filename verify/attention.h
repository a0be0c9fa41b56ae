// Causal attention with grouped queries, over windows that know nothing of each other.
#pragma once

#include <cstdint>
#include <vector>

namespace quern {

struct AttentionShape {
  uint64_t n_windows = 0;
  uint64_t query_begin = 0;  // position of a window's first query
  uint64_t n_queries = 0;    // queries per window
  uint64_t n_heads = 0;
  uint64_t n_kv_heads = 0;  // divides n_heads
  uint64_t head_dim = 0;
};

// Keys are looked at so many at a time, counted from a window's first. Blocks follow from positions
// alone, so that the bits do not depend on how queries are split over calls.
inline constexpr uint64_t kKeyBlock = 4096;

// Writes, for every query and head, softmax(q k^T / sqrt(head_dim)) v over the keys up to the
// query's own position, to which keys and values are shown block by block: what is kept of the
// blocks before are the largest score and the sum of weights of each query. Query head h uses key
// head h / (n_heads / n_kv_heads).
// Source: "Attention Is All You Need", arXiv 1706.03762; "GQA", arXiv 2305.13245; the sums over
// blocks, "Online normalizer calculation for softmax", arXiv 1805.02867.
class Attention {
 public:
  // Shape: q, out [n_windows * n_queries, n_heads * head_dim]; `out` overlaps nothing.
  Attention(const AttentionShape& shape, const float* q, float* out);

  // Takes keys and values of the positions [begin, begin + count) of each window, whose rows stand
  // `window_rows` rows apart from window to window. Work runs in the caller's oneTBB arena, a task
  // per window and key head. Shape: k, v [.., n_kv_heads * head_dim].
  // Requires: begin is a multiple of kKeyBlock, count at most that; blocks come in order, none
  // begins behind the last query.
  void Add(uint64_t begin, uint64_t count, const float* k, const float* v, uint64_t window_rows);
  // Completes `out`. Requires: all keys up to the last query's position were added.
  void Finish();

  // Returns the bytes that one thread works with. Units: bytes.
  static uint64_t WorkspaceBytes(uint64_t context, uint64_t head_dim);
  // Returns the bytes that are kept per query (row of q). Units: bytes.
  static uint64_t QueryBytes(uint64_t n_heads);

 private:
  // Of one query and head, over the keys so far.
  struct Running {
    float max;   // of the scores, q k / sqrt(head_dim)
    double sum;  // of exp(score - max)
  };
  struct Workspace;
  struct Block;
  void AddHeadGroup(const Block& block, uint64_t window, uint64_t kv_head, Workspace& space);

  AttentionShape shape_;
  const float* q_;
  float* out_;
  std::vector<Running> running_;  // [n_windows * n_queries, n_heads]
};

}  // namespace quern
