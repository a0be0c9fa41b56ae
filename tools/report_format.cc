#include "tools/report_format.h"

#include <fmt/format.h>

#include <cmath>

namespace quern {

std::string Counted(uint64_t n, std::string_view noun) {
  return fmt::format("{} {}{}", n, noun, n == 1 ? "" : "s");
}

std::string PlusMinus(const Estimate& estimate, int digits) {
  if (std::isnan(estimate.standard_error))
    return fmt::format("{:.{}f} ± ?", estimate.value, digits);
  return fmt::format("{:.{}f} ± {:.{}f}", estimate.value, digits, estimate.standard_error,
                     digits + 1);
}

Estimate InPercent(const Estimate& fraction) {
  return {100 * fraction.value, 100 * fraction.standard_error};
}

}  // namespace quern
