// What an importance matrix says about each tensor, in a few numbers: those of llama-imatrix
// --show-statistics. verify/IMATRIX.md has the formulas.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/imatrix_file.h"

namespace quern {

// Of the mean squares of one entry. Units: those of the squared activations, or 1.
struct ImatrixStatistics {
  std::string name;
  uint64_t n_values = 0;
  double sum = 0, minimum = 0, maximum = 0, mean = 0;
  double deviation = 0;         // standard deviation (of all, not of a sample)
  double active = 0;            // fraction of values above 1e-5
  double entropy_bits = 0;      // of the values as parts of their sum
  double relative_entropy = 0;  // over log2 n_values; 1: all columns alike
  double outliers = 0;          // fraction of values more than one deviation above the mean
  // Cosine between these values and those of the same tensor in the layer before.
  std::optional<double> cosine_to_previous;
};

// Returns one per entry, in the order of the file.
std::vector<ImatrixStatistics> StatisticsOf(const Imatrix& imatrix);

}  // namespace quern
