#include "verify/distortion.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <string_view>

#include "formats/core/error.h"
#include "quant/codec.h"

namespace quern {
namespace {

// Returns the larger one; NaN is larger than any number.
double LargerOrNaN(double a, double b) { return std::isnan(a) || a >= b ? a : b; }

bool IsWorse(double a, double b) { return !std::isnan(b) && (std::isnan(a) || a > b); }

struct Pair {
  size_t reference = 0, other = 0;  // indices of tensors
};

// What one band of a tensor adds.
struct BandSums {
  ErrorSums sums;
  uint64_t worst_row = 0;
  double worst = 0;
};

// Reads the band's rows into `bytes`; returns room for one row, decoded.
std::vector<float> ReadBand(const TensorStore& store, size_t tensor, const RowBand& band,
                            std::vector<uint8_t>& bytes) {
  const TensorInfo& info = store.manifest().tensors[tensor];
  bytes.resize(band.row_count * info.row_bytes());
  store.ReadRows(tensor, band.row_begin, band.row_count, bytes);
  return std::vector<float>(info.cols());
}

BandSums CompareBand(const TensorStore& reference, const TensorStore& other, const Pair& pair,
                     const RowBand& band) {
  std::vector<uint8_t> x_bytes, y_bytes;
  std::vector<float> x = ReadBand(reference, pair.reference, band, x_bytes);
  std::vector<float> y = ReadBand(other, pair.other, band, y_bytes);
  const TensorInfo& x_info = reference.manifest().tensors[pair.reference];
  const TensorInfo& y_info = other.manifest().tensors[pair.other];
  const BlockCodec& x_codec = *FindCodec(x_info.dtype);
  const BlockCodec& y_codec = *FindCodec(y_info.dtype);
  BandSums result;
  result.worst_row = band.row_begin;
  for (uint64_t r = 0; r < band.row_count; ++r) {
    x_codec.decode(x_bytes.data() + r * x_info.row_bytes(), x.size(), x.data());
    y_codec.decode(y_bytes.data() + r * y_info.row_bytes(), y.size(), y.data());
    const ErrorSums row = SumErrors(x.data(), y.data(), x.size());
    result.sums.Add(row);
    if (const double rmse = row.RelativeRmse(); IsWorse(rmse, result.worst)) {
      result.worst = rmse;
      result.worst_row = band.row_begin + r;
    }
  }
  return result;
}

Finding MissingFinding(std::string_view name, const TensorStore& has, const TensorStore& lacks) {
  return FindingFrom(DataError("diff.missing", "a tensor is missing")
                         .File(Escaped(lacks.name(), 4096))
                         .Tensor(name)
                         .Expected("as in " + Escaped(has.name(), 4096)));
}

// Pairs the tensors of both models and tells which have no partner.
class Matcher {
 public:
  Matcher(const TensorStore& reference, const TensorStore& other, std::vector<Finding>& findings)
      : reference_(reference), other_(other), findings_(findings) {}

  std::vector<Pair> Match() {
    std::map<std::string_view, size_t> others;
    for (size_t i = 0; i < other_.manifest().tensors.size(); ++i)
      others.emplace(other_.manifest().tensors[i].name, i);
    std::vector<Pair> pairs;
    for (size_t i = 0; i < reference_.manifest().tensors.size(); ++i) {
      const TensorInfo& tensor = reference_.manifest().tensors[i];
      const auto found = others.find(tensor.name);
      if (found == others.end()) {
        findings_.push_back(MissingFinding(tensor.name, reference_, other_));
        continue;
      }
      if (Comparable(tensor, other_.manifest().tensors[found->second]))
        pairs.push_back({i, found->second});
      others.erase(found);
    }
    for (const TensorInfo& tensor : other_.manifest().tensors) {
      if (others.contains(tensor.name))
        findings_.push_back(MissingFinding(tensor.name, other_, reference_));
    }
    return pairs;
  }

 private:
  bool Comparable(const TensorInfo& x, const TensorInfo& y) {
    if (x.shape != y.shape) {
      findings_.push_back(FindingFrom(DataError("diff.shape", "a tensor has another shape")
                                          .File(Escaped(other_.name(), 4096))
                                          .Tensor(x.name)
                                          .Found(y.shape.ToString())
                                          .Expected(x.shape.ToString())));
      return false;
    }
    for (const DType type : {x.dtype, y.dtype}) {
      if (FindCodec(type) != nullptr) continue;
      findings_.push_back(FindingFrom(
          UnsupportedError("diff.not-decoded", "a tensor is not compared, its type is not decoded")
              .File(Escaped(other_.name(), 4096))
              .Tensor(x.name)
              .Found(NameOf(type)),
          Finding::Severity::kNote));
      return false;
    }
    return true;
  }

  const TensorStore& reference_;
  const TensorStore& other_;
  std::vector<Finding>& findings_;
};

}  // namespace

void ErrorSums::Add(const ErrorSums& more) {
  error2 += more.error2;
  reference2 += more.reference2;
  other2 += more.other2;
  product += more.product;
  max_error = LargerOrNaN(max_error, more.max_error);
}

double ErrorSums::RelativeRmse() const { return error2 == 0 ? 0 : std::sqrt(error2 / reference2); }

double ErrorSums::SqnrDb() const {
  return error2 == 0 ? std::numeric_limits<double>::infinity()
                     : 10 * std::log10(reference2 / error2);
}

double ErrorSums::Cosine() const {
  if (error2 == 0) return 1;
  if (std::isnan(error2)) return error2;
  if (reference2 == 0 || other2 == 0) return 0;
  return product / (std::sqrt(reference2) * std::sqrt(other2));
}

ErrorSums SumErrors(const float* x, const float* y, uint64_t n) {
  ErrorSums sums;
  for (uint64_t i = 0; i < n; ++i) {
    const double a = x[i], b = y[i];
    const double error = std::isinf(a - b) ? std::numeric_limits<double>::quiet_NaN() : a - b;
    sums.error2 += error * error;
    sums.reference2 += a * a;
    sums.other2 += b * b;
    sums.product += a * b;
    sums.max_error = LargerOrNaN(sums.max_error, std::abs(error));
  }
  return sums;
}

Distortion MeasureDistortion(const TensorStore& reference, const TensorStore& other,
                             const BandOptions& options) {
  Distortion result;
  const std::vector<Pair> pairs = Matcher(reference, other, result.findings).Match();
  std::vector<BandedTensor> banded;
  for (const Pair& pair : pairs) {
    const TensorInfo& x = reference.manifest().tensors[pair.reference];
    const TensorInfo& y = other.manifest().tensors[pair.other];
    if (x.cols() != 0) {
      banded.push_back({result.tensors.size(), x.rows(), x.row_bytes() + y.row_bytes(),
                        2 * sizeof(float) * x.cols()});
    }
    TensorDistortion& tensor = result.tensors.emplace_back();
    tensor.name = x.name;
    tensor.reference_type = x.dtype;
    tensor.other_type = y.dtype;
    tensor.n_elems = x.shape.n_elems();
  }
  ForEachBand("comparing", other.name(), banded, options, [&](const RowBand& band) {
    const BandSums sums = CompareBand(reference, other, pairs[band.tensor], band);
    return [&result, sums, i = band.tensor] {
      TensorDistortion& tensor = result.tensors[i];
      tensor.sums.Add(sums.sums);
      if (!IsWorse(sums.worst, tensor.worst_row_relative_rmse)) return;
      tensor.worst_row = sums.worst_row;
      tensor.worst_row_relative_rmse = sums.worst;
    };
  });
  for (const TensorDistortion& tensor : result.tensors) {
    result.total.Add(tensor.sums);
    if (!std::isnan(tensor.sums.error2)) continue;
    result.findings.push_back(FindingFrom(
        DataError("diff.non-finite", "weights are NaN or infinite; no distance can be told")
            .Where(fmt::format("tensor {}, first at row {}", Quoted(tensor.name), tensor.worst_row))
            .Expected("finite values")
            .Hint("`quern check` names each place")));
  }
  return result;
}

}  // namespace quern
