#include "converters/rope_scaling.h"

#include <cmath>
#include <numbers>

namespace quern {

std::vector<float> RopeDivisors(double theta, uint32_t head_dim, double factor) {
  constexpr double kOriginalContext = 8192, kLowFrequency = 1, kHighFrequency = 4;
  std::vector<float> divisors;  // [head_dim / 2]
  divisors.reserve(head_dim / 2);
  for (uint32_t i = 0; i < head_dim; i += 2) {
    // Frequencies are f32 in the reference; the rest is double there too.
    const auto power = static_cast<float>(std::pow(theta, static_cast<double>(i) / head_dim));
    const double wavelength = 2 * std::numbers::pi / static_cast<double>(1.0f / power);
    double divisor = 1;
    if (wavelength > kOriginalContext / kLowFrequency) {
      divisor = factor;
    } else if (wavelength >= kOriginalContext / kHighFrequency) {
      const double smooth =
          (kOriginalContext / wavelength - kLowFrequency) / (kHighFrequency - kLowFrequency);
      divisor = 1 / ((1 - smooth) / factor + smooth);
    }
    divisors.push_back(static_cast<float>(divisor));
  }
  return divisors;
}

}  // namespace quern
