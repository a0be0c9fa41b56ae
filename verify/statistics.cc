#include "verify/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/core/check.h"

namespace quern {
namespace {

// Returns the continued fraction of the incomplete beta function, by Lentz's method.
// Source: NIST DLMF, 8.17.22.
double BetaFraction(double x, double a, double b) {
  constexpr double kTiny = 1e-300, kPrecision = 1e-16;
  constexpr int kMaxTerms = 10000;
  double c = 1;
  double d = 1 - (a + b) * x / (a + 1);
  d = 1 / (std::abs(d) < kTiny ? kTiny : d);
  double value = d;
  const auto take = [&](double term) {
    d = 1 + term * d;
    d = 1 / (std::abs(d) < kTiny ? kTiny : d);
    c = 1 + term / c;
    if (std::abs(c) < kTiny) c = kTiny;
    value *= c * d;
  };
  for (int m = 1; m < kMaxTerms; ++m) {
    const double k = m;
    const double before = value;
    take(k * (b - k) * x / ((a + 2 * k - 1) * (a + 2 * k)));
    take(-(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1)));
    if (std::abs(value / before - 1) < kPrecision) break;
  }
  return value;
}

// Returns P(|T| > t) for Student's distribution: I_x(degrees / 2, 1 / 2) at x = degrees / (degrees
// + t^2). Source: NIST DLMF, 8.17.
double TwoTails(double t, double degrees) {
  const double x = degrees / (degrees + t * t);
  const double a = degrees / 2, b = 0.5;
  const auto front = [](double y, double p, double q) {
    return std::exp(std::lgamma(p + q) - std::lgamma(p) - std::lgamma(q) + p * std::log(y) +
                    q * std::log1p(-y)) /
           p;
  };
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  // The fraction converges fast on this side of the mean, and the other follows by symmetry.
  if (x < (a + 1) / (a + b + 2)) return front(x, a, b) * BetaFraction(x, a, b);
  return 1 - front(1 - x, b, a) * BetaFraction(1 - x, b, a);
}

}  // namespace

Estimate EstimateMean(std::span<const double> values) {
  if (values.empty()) return {};
  const auto n = static_cast<double>(values.size());
  double sum = 0;
  for (const double value : values) sum += value;
  const double mean = sum / n;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, values.size() < 2 ? 0.0 : std::sqrt(squares / n / (n - 1))};
}

Estimate ExpOf(const Estimate& mean) {
  const double value = std::exp(mean.value);
  return {value, value * mean.standard_error};
}

std::vector<double> WindowMeans(std::span<const double> values, uint64_t per_window) {
  QUERN_CHECK(per_window > 0 && values.size() % per_window == 0);
  std::vector<double> means;
  means.reserve(values.size() / per_window);
  for (size_t begin = 0; begin < values.size(); begin += per_window) {
    double sum = 0;
    for (const double value : values.subspan(begin, per_window)) sum += value;
    means.push_back(sum / static_cast<double>(per_window));
  }
  return means;
}

Estimate EstimateOverWindows(std::span<const double> values, uint64_t per_window) {
  const std::vector<double> means = WindowMeans(values, per_window);
  const double error = means.size() < 2 ? std::numeric_limits<double>::quiet_NaN()
                                        : EstimateMean(means).standard_error;
  return {EstimateMean(values).value, error};
}

double QuantileOf(std::span<const double> sorted, double fraction) {
  QUERN_CHECK(!sorted.empty());
  const double place = fraction * static_cast<double>(sorted.size() - 1);
  const auto below = std::min(static_cast<size_t>(place), sorted.size() - 1);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double share = place - static_cast<double>(below);
  return sorted[below] + share * (sorted[above] - sorted[below]);
}

Distribution Describe(std::span<const double> values, uint64_t per_window) {
  if (values.empty()) return {};
  std::vector<double> sorted(values.begin(), values.end());
  std::ranges::sort(sorted);
  Distribution result;
  result.mean = EstimateOverWindows(values, per_window);
  result.minimum = sorted.front();
  result.maximum = sorted.back();
  std::vector<double> up_to_it(values.size());
  for (const double percent : kPercents) {
    const double fraction = percent / 100;
    const double value = QuantileOf(sorted, fraction);
    std::ranges::transform(values, up_to_it.begin(),
                           [value](double v) { return v <= value ? 1.0 : 0.0; });
    const double e = EstimateOverWindows(up_to_it, per_window).standard_error;
    const double error = std::isnan(e) ? e
                                       : (QuantileOf(sorted, std::min(1.0, fraction + e)) -
                                          QuantileOf(sorted, std::max(0.0, fraction - e))) /
                                             2;
    result.percentiles.push_back({percent, {value, error}});
  }
  return result;
}

double StudentQuantile(double probability, double degrees) {
  QUERN_CHECK(degrees >= 1 && probability >= 0.5 && probability < 1);
  const double tails = 2 * (1 - probability);
  // The derivative of TwoTails is minus twice the density. Newton's steps from below never overshoot,
  // since the tails are convex.
  const double norm = std::exp(std::lgamma((degrees + 1) / 2) - std::lgamma(degrees / 2)) /
                      std::sqrt(degrees * std::acos(-1.0));
  double t = 0, next = 1;
  while (TwoTails(next, degrees) > tails) {
    t = next;
    next *= 2;
  }
  constexpr int kMaxSteps = 100;
  for (int i = 0; i < kMaxSteps; ++i) {
    const double density = norm * std::pow(1 + t * t / degrees, -(degrees + 1) / 2);
    const double step = (TwoTails(t, degrees) - tails) / (2 * density);
    t += step;
    if (step <= 1e-14 * t) break;
  }
  return t;
}

}  // namespace quern
