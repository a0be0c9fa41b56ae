#include "verify/ops.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "verify/ops.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include <hwy/contrib/math/math-inl.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "quant/codec.h"

HWY_BEFORE_NAMESPACE();
namespace quern {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

const hn::ScalableTag<float> kFloats;
const hn::ScalableTag<double> kDoubles;
const hn::Rebind<float, decltype(kDoubles)> kHalfFloats;  // As many floats as there are doubles.
using Doubles = hn::Vec<decltype(kDoubles)>;

double SumOfSquares(const float* x, size_t n) {
  const size_t lanes = hn::Lanes(kDoubles);
  Doubles sum = hn::Zero(kDoubles);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const Doubles v = hn::PromoteTo(kDoubles, hn::LoadU(kHalfFloats, x + i));
    sum = hn::MulAdd(v, v, sum);
  }
  double total = hn::GetLane(hn::SumOfLanes(kDoubles, sum));
  for (; i < n; ++i) total += double{x[i]} * double{x[i]};
  return total;
}

float MaxOf(const float* x, size_t n) {
  const size_t lanes = hn::Lanes(kFloats);
  float max = x[0];
  size_t i = 0;
  if (n >= lanes) {
    auto best = hn::LoadU(kFloats, x);
    for (; i + lanes <= n; i += lanes) best = hn::Max(best, hn::LoadU(kFloats, x + i));
    max = hn::GetLane(hn::MaxOfLanes(kFloats, best));
  }
  for (; i < n; ++i) max = std::max(max, x[i]);
  return max;
}

// Replaces s by exp(scale * (s - max)) and returns the sum.
double ExpInPlace(float* s, size_t n, float max, float scale) {
  const size_t lanes = hn::Lanes(kFloats);
  const auto shift = hn::Set(kFloats, max);
  const auto factor = hn::Set(kFloats, scale);
  double total = 0;
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::Exp(kFloats, hn::Mul(factor, hn::Sub(hn::LoadU(kFloats, s + i), shift)));
    hn::StoreU(v, kFloats, s + i);
    total += double{hn::GetLane(hn::SumOfLanes(kFloats, v))};
  }
  if (i < n) {
    // Through a full vector: Highway 1.0.3's MaskedLoad wants aligned memory on SSE.
    HWY_ALIGN float tail[HWY_MAX_BYTES / sizeof(float)] = {};
    std::copy(s + i, s + n, tail);
    const auto v = hn::IfThenElseZero(
        hn::FirstN(kFloats, n - i),
        hn::Exp(kFloats, hn::Mul(factor, hn::Sub(hn::Load(kFloats, tail), shift))));
    total += double{hn::GetLane(hn::SumOfLanes(kFloats, v))};
    hn::Store(v, kFloats, tail);
    std::copy(tail, tail + (n - i), s + i);
  }
  return total;
}

void SwiGlu(float* gate, const float* up, size_t n) {
  const size_t lanes = hn::Lanes(kFloats);
  const auto one = hn::Set(kFloats, 1.0f);
  // Highway's Exp gives nonsense above 104; below -88, silu is taken as the zero it is close to.
  const auto limit = hn::Set(kFloats, 88.0f);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto z = hn::LoadU(kFloats, gate + i);
    const auto minus_z = hn::Neg(z);
    const auto silu = hn::Div(z, hn::Add(one, hn::Exp(kFloats, hn::Min(minus_z, limit))));
    const auto sound = hn::IfThenZeroElse(hn::Gt(minus_z, limit), silu);
    hn::StoreU(hn::Mul(sound, hn::LoadU(kFloats, up + i)), kFloats, gate + i);
  }
  for (; i < n; ++i) gate[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
}

// Returns the sum of exp(x - max), in double.
double ExpSum(const float* x, size_t n, double max) {
  const size_t lanes = hn::Lanes(kDoubles);
  const Doubles shift = hn::Set(kDoubles, max);
  Doubles sum = hn::Zero(kDoubles);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const Doubles v = hn::PromoteTo(kDoubles, hn::LoadU(kHalfFloats, x + i));
    sum = hn::Add(sum, hn::Exp(kDoubles, hn::Sub(v, shift)));
  }
  double total = hn::GetLane(hn::SumOfLanes(kDoubles, sum));
  for (; i < n; ++i) total += std::exp(double{x[i]} - max);
  return total;
}

// Returns the sum of exp(p - max) * (p - q), in double.
double WeightedDifference(const float* p, const float* q, size_t n, double max) {
  const size_t lanes = hn::Lanes(kDoubles);
  const Doubles shift = hn::Set(kDoubles, max);
  Doubles sum = hn::Zero(kDoubles);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const Doubles vp = hn::PromoteTo(kDoubles, hn::LoadU(kHalfFloats, p + i));
    const Doubles vq = hn::PromoteTo(kDoubles, hn::LoadU(kHalfFloats, q + i));
    sum = hn::MulAdd(hn::Exp(kDoubles, hn::Sub(vp, shift)), hn::Sub(vp, vq), sum);
  }
  double total = hn::GetLane(hn::SumOfLanes(kDoubles, sum));
  for (; i < n; ++i) total += std::exp(double{p[i]} - max) * (double{p[i]} - double{q[i]});
  return total;
}

// Adds to `mass` the sum of exp(p), to `weighted` that of exp(p) * (p - q), over p above `floor`.
void GivenDivergence(const float* p, const float* q, size_t n, double floor, double* mass,
                     double* weighted) {
  const size_t lanes = hn::Lanes(kDoubles);
  const Doubles least = hn::Set(kDoubles, floor);
  Doubles masses = hn::Zero(kDoubles), sum = hn::Zero(kDoubles);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const Doubles vp = hn::PromoteTo(kDoubles, hn::LoadU(kHalfFloats, p + i));
    const Doubles vq = hn::PromoteTo(kDoubles, hn::LoadU(kHalfFloats, q + i));
    const Doubles share = hn::IfThenElseZero(hn::Gt(vp, least), hn::Exp(kDoubles, vp));
    masses = hn::Add(masses, share);
    sum = hn::MulAdd(share, hn::Sub(vp, vq), sum);
  }
  *mass += hn::GetLane(hn::SumOfLanes(kDoubles, masses));
  *weighted += hn::GetLane(hn::SumOfLanes(kDoubles, sum));
  for (; i < n; ++i) {
    if (!(double{p[i]} > floor)) continue;
    const double share = std::exp(double{p[i]});
    *mass += share;
    *weighted += share * (double{p[i]} - double{q[i]});
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace quern
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace quern {
namespace {

HWY_EXPORT(SumOfSquares);
HWY_EXPORT(MaxOf);
HWY_EXPORT(ExpInPlace);
HWY_EXPORT(SwiGlu);
HWY_EXPORT(ExpSum);
HWY_EXPORT(WeightedDifference);
HWY_EXPORT(GivenDivergence);

}  // namespace

void RoundToBF16(const float* x, size_t n, uint16_t* out) {
  static const BlockCodec* const codec = FindCodec(DType::kBF16);
  codec->encode({.x = x, .n_rows = 1, .n_cols = n}, reinterpret_cast<uint8_t*>(out));
}

void RmsNorm(const float* x, const float* weight, size_t n, float eps, float* out) {
  const double mean = HWY_DYNAMIC_DISPATCH(SumOfSquares)(x, n) / static_cast<double>(n);
  const float scale = static_cast<float>(1.0 / std::sqrt(mean + double{eps}));
  for (size_t i = 0; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

RotaryTable::RotaryTable(size_t begin, size_t n_positions, size_t head_dim, double theta,
                         double linear_factor, std::span<const float> divisors)
    : begin_(begin),
      n_pairs_(head_dim / 2),
      cosines_(n_positions * n_pairs_),
      sines_(n_positions * n_pairs_) {
  for (size_t i = 0; i < n_pairs_; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
    const double divisor = divisors.empty() ? 1.0 : double{divisors[i]};
    const double frequency = std::pow(theta, exponent) / linear_factor / divisor;
    for (size_t p = 0; p < n_positions; ++p) {
      const double angle = static_cast<double>(begin + p) * frequency;
      cosines_[p * n_pairs_ + i] = static_cast<float>(std::cos(angle));
      sines_[p * n_pairs_ + i] = static_cast<float>(std::sin(angle));
    }
  }
}

void RotaryTable::Rotate(float* heads, size_t n_heads, size_t position) const {
  const float* cosine = cosines_.data() + (position - begin_) * n_pairs_;
  const float* sine = sines_.data() + (position - begin_) * n_pairs_;
  for (size_t head = 0; head < n_heads; ++head, heads += 2 * n_pairs_) {
    for (size_t i = 0; i < n_pairs_; ++i) {
      const float a = heads[2 * i];
      const float b = heads[2 * i + 1];
      heads[2 * i] = a * cosine[i] - b * sine[i];
      heads[2 * i + 1] = a * sine[i] + b * cosine[i];
    }
  }
}

ExpSums ExpShifted(float* s, size_t n, float scale) {
  const float max = HWY_DYNAMIC_DISPATCH(MaxOf)(s, n);
  return {scale * max, HWY_DYNAMIC_DISPATCH(ExpInPlace)(s, n, max, scale)};
}

void SwiGlu(float* gate, const float* up, size_t n) {
  HWY_DYNAMIC_DISPATCH(SwiGlu)(gate, up, n);
}

void AddTo(float* a, const float* b, size_t n) {
  for (size_t i = 0; i < n; ++i) a[i] += b[i];
}

LogitSums::LogitSums() : max(-std::numeric_limits<double>::infinity()) {}

void LogitSums::Add(const float* logits, uint64_t begin, size_t n) {
  if (n == 0) return;
  const float piece_max = HWY_DYNAMIC_DISPATCH(MaxOf)(logits, n);
  if (double{piece_max} > max) {  // Equal: the earlier entry stays the top.
    sum *= std::exp(max - double{piece_max});
    max = double{piece_max};
    top = begin + static_cast<uint64_t>(std::find(logits, logits + n, piece_max) - logits);
  }
  sum += HWY_DYNAMIC_DISPATCH(ExpSum)(logits, n, max);
}

double LogitSums::LogTotal() const { return max + std::log(sum); }

void DivergenceSums::Add(const float* p_logits, const float* q_logits, uint64_t begin, size_t n) {
  if (n == 0) return;
  const double p_max = p.max;
  p.Add(p_logits, begin, n);
  q.Add(q_logits, begin, n);
  if (p.max > p_max) weighted *= std::exp(p_max - p.max);
  weighted += HWY_DYNAMIC_DISPATCH(WeightedDifference)(p_logits, q_logits, n, p.max);
}

double DivergenceSums::Kld() const { return weighted / p.sum - p.LogTotal() + q.LogTotal(); }

GivenSums::GivenSums(double least)
    : floor(least), max(-std::numeric_limits<float>::infinity()) {}

void GivenSums::Add(const float* log_p, const float* q_logits, uint64_t begin, size_t n) {
  if (n == 0) return;
  const float piece_max = HWY_DYNAMIC_DISPATCH(MaxOf)(log_p, n);
  if (piece_max > max) {  // Equal: the earlier entry stays the top.
    max = piece_max;
    top = begin + static_cast<uint64_t>(std::find(log_p, log_p + n, piece_max) - log_p);
  }
  q.Add(q_logits, begin, n);
  HWY_DYNAMIC_DISPATCH(GivenDivergence)(log_p, q_logits, n, floor, &mass, &weighted);
}

}  // namespace quern
#endif  // HWY_ONCE
