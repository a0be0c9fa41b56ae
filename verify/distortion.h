// How far a model's weights are from another's, tensor by tensor.
//
// With x the reference's weights, y the other's, sums over all elements of a tensor (of a row, of
// all tensors), in double precision and a fixed order:
//
//   relative RMSE  sqrt(sum (x - y)^2 / sum x^2); 0 if x = y throughout; infinite if only x is 0
//   SQNR           10 log10(sum x^2 / sum (x - y)^2) dB; infinite if x = y throughout
//   cosine         sum xy / sqrt(sum x^2 sum y^2); 1 if x = y throughout; 0 if only one is all 0
//   max error      max |x - y|, in units of the weights
//
// All are NaN where a weight is NaN or infinite.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/core/finding.h"
#include "formats/core/stream.h"
#include "verify/row_bands.h"

namespace quern {

// The sums from which the figures follow.
struct ErrorSums {
  double error2 = 0;      // sum (x - y)^2
  double reference2 = 0;  // sum x^2
  double other2 = 0;      // sum y^2
  double product = 0;     // sum xy
  double max_error = 0;   // max |x - y|; NaN once there was one

  void Add(const ErrorSums& more);
  double RelativeRmse() const;
  double SqnrDb() const;  // Units: decibels
  double Cosine() const;
};

// Returns the sums over x[0..n) and y[0..n).
ErrorSums SumErrors(const float* x, const float* y, uint64_t n);

struct TensorDistortion {
  std::string name;
  DType reference_type = DType::kF32, other_type = DType::kF32;
  uint64_t n_elems = 0;
  ErrorSums sums;
  uint64_t worst_row = 0;              // with the largest relative RMSE; the first of them
  double worst_row_relative_rmse = 0;  // NaN counts as larger than any number
};

struct Distortion {
  std::vector<TensorDistortion> tensors;  // those that could be compared, in the reference's order
  ErrorSums total;                        // over all of them
  // Tensors that are missing on one side ("diff.missing"), of different shape ("diff.shape"), not
  // finite ("diff.non-finite"): errors. Not decoded ("diff.not-decoded"): a note.
  std::vector<Finding> findings;
};

// Compares the tensors of two models, matched by name. Reads every weight of both.
// Throws: Error kMemory "memory.budget" if a row does not fit; as TensorStore::ReadRows.
Distortion MeasureDistortion(const TensorStore& reference, const TensorStore& other,
                             const BandOptions& options);

}  // namespace quern
