// How numbers of a report are worded, the same in every form of it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "verify/report.h"

namespace quern {

// Returns "1 window", "8 windows".
std::string Counted(uint64_t n, std::string_view noun);

// Returns the value with `digits` decimals and its error with one more: "1.25 ± 0.012"; "1.25 ± ?"
// where the error is not known.
std::string PlusMinus(const Estimate& estimate, int digits);

// Returns a fraction in per cent.
Estimate InPercent(const Estimate& fraction);

}  // namespace quern
