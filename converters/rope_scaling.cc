#include "converters/rope_scaling.h"

#include <cmath>
#include <numbers>

namespace quern {

std::vector<float> RopeDivisors(double theta, uint32_t head_dim,
                                const RopeFrequencyScaling& scaling) {
  const auto& [factor, low, high, original_context] = scaling;
  std::vector<float> divisors;  // [head_dim / 2]
  divisors.reserve(head_dim / 2);
  for (uint32_t i = 0; i < head_dim; i += 2) {
    // Frequencies are f32 in the reference; the rest is double there too.
    const auto power = static_cast<float>(std::pow(theta, static_cast<double>(i) / head_dim));
    const double wavelength = 2 * std::numbers::pi / static_cast<double>(1.0f / power);
    double divisor = 1;
    if (wavelength > original_context / low) {
      divisor = factor;
    } else if (wavelength >= original_context / high) {
      const double smooth =
          (original_context / wavelength - low) / (high - low);
      divisor = 1 / ((1 - smooth) / factor + smooth);
    }
    divisors.push_back(static_cast<float>(divisor));
  }
  return divisors;
}

}  // namespace quern
