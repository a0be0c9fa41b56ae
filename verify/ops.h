// The steps of a forward pass that are no matrix products. Single-threaded; f32, with sums in double
// where it counts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace quern {

// Writes out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]; `out` may be `x`.
// Source: "Root Mean Square Layer Normalization", arXiv 1910.07467.
void RmsNorm(const float* x, const float* weight, size_t n, float eps, float* out);

// Cosines and sines of the rotation angles of the positions [begin, begin + n_positions): for
// position p and pair i, the angle is p / linear_factor * theta^(-2 i / head_dim) / divisors[i].
// Source: "RoFormer", arXiv 2104.09864; the divisors are Llama 3.1's (rope_freqs.weight).
class RotaryTable {
 public:
  // `divisors` is empty or has head_dim / 2 entries.
  RotaryTable(size_t begin, size_t n_positions, size_t head_dim, double theta, double linear_factor,
              std::span<const float> divisors);
  // Rotates the adjacent pairs (2i, 2i + 1) of each of `n_heads` vectors of head_dim floats that
  // stand one behind the other. Requires: the table has `position`.
  void Rotate(float* heads, size_t n_heads, size_t position) const;

  // Returns the bytes of a table. Units: bytes.
  static size_t Bytes(size_t n_positions, size_t head_dim) {
    return n_positions * (head_dim / 2) * 2 * sizeof(float);
  }

 private:
  size_t begin_, n_pairs_;
  std::vector<float> cosines_, sines_;  // [n_positions, n_pairs]
};

// What softmax takes of a row of scores that comes in pieces.
struct ExpSums {
  float max = 0;   // of scale * s
  double sum = 0;  // of exp(scale * s - max)
};
// Replaces s[0..n) by exp(scale * s - max); divided by the sum, that is softmax(scale * s).
// Requires: n > 0; scale > 0.
ExpSums ExpShifted(float* s, size_t n, float scale);

// Replaces gate[i] by silu(gate[i]) * up[i], where silu(z) = z / (1 + exp(-z)).
// Source: "GLU Variants Improve Transformer", arXiv 2002.05202.
void SwiGlu(float* gate, const float* up, size_t n);

// Writes the bf16 nearest to each of x[0..n), as formats/core/half.h has it.
void RoundToBF16(const float* x, size_t n, uint16_t* out);

// Adds b[0..n) to a[0..n).
void AddTo(float* a, const float* b, size_t n);

// Sums over a row of logits that comes in pieces: enough for the log-probability of any entry, and
// for the most likely entry. All in double.
struct LogitSums {
  double max;        // of the logits so far
  double sum = 0;    // of exp(logit - max)
  uint64_t top = 0;  // the first entry that has the maximum
  LogitSums();
  // Takes in the entries [begin, begin + n). Requires: finite logits, pieces in order.
  void Add(const float* logits, uint64_t begin, size_t n);
  // log of the sum of exp(logit).
  double LogTotal() const;
};

// The same for two rows at once: how far the distribution of the second (q) is from that of the
// first (p).
struct DivergenceSums {
  LogitSums p, q;
  double weighted = 0;  // sum of exp(p_i - p.max) * (p_i - q_i)
  void Add(const float* p_logits, const float* q_logits, uint64_t begin, size_t n);
  // KL(P || Q) = sum of P_i * (log P_i - log Q_i). Units: nats.
  double Kld() const;
};

// The same where the first row holds log-probabilities as they are given. Those of `floor` and less
// count for nothing, and what is left is not made to add up to 1.
struct GivenSums {
  LogitSums q;
  double floor;
  double mass = 0;      // sum of exp(p_i)
  double weighted = 0;  // sum of exp(p_i) * (p_i - q_i)
  float max;            // of p
  uint64_t top = 0;     // the first entry that has it
  explicit GivenSums(double least);
  void Add(const float* log_p, const float* q_logits, uint64_t begin, size_t n);
  // Sum of P_i * (log P_i - log Q_i). Units: nats.
  double Kld() const { return weighted + mass * q.LogTotal(); }
};

}  // namespace quern
