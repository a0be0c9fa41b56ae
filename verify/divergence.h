// How far a model's predictions are from a reference's: what follows from the values of single
// predictions. verify/DIVERGENCE.md has the formulas.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "verify/perplexity.h"

namespace quern {

// Returns what `predictions` say, all but the reference's name.
// Requires: `predictions` has a reference; per_window divides their number.
Divergence DivergenceOf(const Predictions& predictions, uint64_t per_window);

// Returns the means over each window; `places` are the windows'.
WindowSeries SeriesOf(std::span<const uint64_t> places, const Predictions& predictions,
                      uint64_t per_window);

// Sets what follows from report.predictions and the windows' places in the text: numbers of windows
// and tokens, means, series, and with a reference the divergence from it.
void Summarize(std::span<const uint64_t> places, ReferenceInfo reference, Report& report);

// Measures `model` and `reference` over `text`; Report::divergence is set.
// Throws: as ComparePerplexity.
Report PerplexityAgainst(const TensorStore& model, const TensorStore& reference,
                         std::string_view text, const PerplexityOptions& options);

}  // namespace quern
