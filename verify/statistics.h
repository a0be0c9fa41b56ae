// Means, errors and quantiles of what was measured. Predictions of one window hang together, so the
// unit of every error is the window unless a name says otherwise.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "verify/report.h"

namespace quern {

// Returns mean and standard error of independent values, sqrt((mean of squares - squared mean) /
// (n - 1)), 0 for n < 2: llama.cpp's, for predictions.
Estimate EstimateMean(std::span<const double> values);

// Returns exp(mean) and its error by the delta method: value * mean's error.
Estimate ExpOf(const Estimate& mean);

// Returns the mean of each run of `per_window` values.
// Requires: a whole number of runs.
std::vector<double> WindowMeans(std::span<const double> values, uint64_t per_window);

// Returns the mean of `values` with the error of the mean of its windows' means, which are taken as
// independent; NaN as error of a single window.
Estimate EstimateOverWindows(std::span<const double> values, uint64_t per_window);

// Returns the value at `fraction` (n - 1) of the sorted list, between two entries in proportion.
// Requires: values, rising; fraction in [0, 1].
double QuantileOf(std::span<const double> sorted, double fraction);

// The percentiles that reports have. Units: percent.
inline constexpr double kPercents[] = {0.1, 1, 5, 10, 50, 90, 95, 99, 99.9};

// Returns extremes, mean and percentiles. The error of a percentile is Woodruff's: the values at
// fraction ± e, halved, where e is the error, over windows, of the fraction of values up to it.
// Source: R. S. Woodruff, "Confidence intervals for medians and other position measures", 1952.
Distribution Describe(std::span<const double> values, uint64_t per_window);

// Returns t with P(T <= t) = `probability` for Student's distribution.
// Requires: degrees >= 1; probability in [0.5, 1).
double StudentQuantile(double probability, double degrees);

}  // namespace quern
