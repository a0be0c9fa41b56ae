// Gates: questions about a model with an answer yes, no or not decided, asked again and again while
// windows are evaluated, so that a run ends as soon as the answer is known. verify/DIVERGENCE.md
// has the procedure and its errors.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "verify/report.h"

namespace quern {

struct GateInfo {
  GateKind kind;
  std::string_view name;      // of the flag, without dashes: "max-ppl-ratio"
  std::string_view quantity;  // what is compared with the limit: "perplexity ratio"
  bool paired;                // needs a reference (or a baseline, for the ratio)
  double maximum;             // of a limit that makes sense; limits are above 0
};

// Returns the table, one row per GateKind, in its order.
std::span<const GateInfo> AllGates();

struct GateOptions {
  std::vector<Gate> gates;
  double confidence = 0.99;  // (1 - confidence) / 2 is the nominal error of either wrong answer.
};

// Returns the numbers of windows, rising, after which gates are judged where `n_windows` are to be
// evaluated; the last one is n_windows.
std::vector<uint64_t> GateLooks(uint64_t n_windows);

// Judges the gates at every look up to series.size(), of a run of `n_windows` that predicts
// `per_window` tokens in each. The answer to a gate is that of the first look that decides it. With
// `baseline_nll` (one per window of `series`), the ratio is to that instead of to the reference.
// Requires: what the gates need is in `series`.
Verdict Judge(const GateOptions& options, const WindowSeries& series, uint64_t n_windows,
              uint64_t per_window, std::span<const double> baseline_nll = {});

}  // namespace quern
