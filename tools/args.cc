// Numbers on the command line (declared in tools/command.h).
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "formats/core/ascii.h"
#include "formats/core/error.h"
#include "tools/command.h"

namespace quern {

Error UsageError(std::string_view id, std::string_view what) {
  return Error(ErrorCode::kUsage, id, what);
}

uint64_t ParseCount(std::string_view flag, std::string_view text, uint64_t minimum,
                    uint64_t maximum) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < minimum ||
      value > maximum) {
    throw UsageError("usage.flag-value",
                     fmt::format("{} takes a whole number from {} to {}, not {}", flag, minimum,
                                 maximum, Quoted(text)));
  }
  return value;
}

double ParseNumber(std::string_view flag, std::string_view text, double above, double maximum) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() ||
      !(value > above && value <= maximum)) {
    throw UsageError("usage.flag-value",
                     fmt::format("{} takes a number above {} and at most {}, not {}", flag, above,
                                 maximum, Quoted(text)));
  }
  return value;
}

uint64_t ParseSize(std::string_view flag, std::string_view text) {
  struct Unit {
    std::string_view name;
    double bytes;
  };
  constexpr Unit kUnits[] = {{"", 1},       {"b", 1},        {"k", 0x1p10}, {"kib", 0x1p10},
                             {"m", 0x1p20}, {"mib", 0x1p20}, {"g", 0x1p30}, {"gib", 0x1p30},
                             {"t", 0x1p40}, {"tib", 0x1p40}, {"kb", 1e3},   {"mb", 1e6},
                             {"gb", 1e9},   {"tb", 1e12}};
  double number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  const std::string unit = AsciiLower(std::string_view(end, text.data() + text.size()));
  const auto* found = std::ranges::find(kUnits, unit, &Unit::name);
  const bool is_number = error == std::errc() && std::isfinite(number) && number > 0;
  if (!is_number || found == std::end(kUnits) || number * found->bytes >= 0x1p62) {
    throw UsageError(
        "usage.flag-value",
        fmt::format("{} takes a size such as 512MiB or 2GiB, not {}", flag, Quoted(text)));
  }
  return static_cast<uint64_t>(number * found->bytes);
}

}  // namespace quern
