#include "verify/integrity.h"

#include <fmt/format.h>

#include <optional>

#include "quant/codec.h"

namespace quern {
namespace {

// Rows of one tensor to look at, and what was found there.
struct Band : RowBand {
  uint64_t n_bad = 0;
  uint64_t bad_row = 0, bad_col = 0;  // the first
  float bad_value = 0;
  std::optional<Finding> read_fault;
};

void Inspect(const TensorStore& store, Band& band) {
  const TensorInfo& tensor = store.manifest().tensors[band.tensor];
  std::vector<uint8_t> bytes(band.row_count * tensor.row_bytes());
  try {
    store.ReadRows(band.tensor, band.row_begin, band.row_count, bytes);
  } catch (const Error& error) {
    band.read_fault = FindingFrom(error);
    return;
  }
  const uint64_t cols = tensor.cols();
  std::vector<float> row(cols);
  const BlockCodec& codec = *FindCodec(tensor.dtype);
  for (uint64_t r = 0; r < band.row_count; ++r) {
    codec.decode(bytes.data() + r * tensor.row_bytes(), cols, row.data());
    for (uint64_t c = FirstNonFinite(row.data(), cols); c < cols;
         c += 1 + FirstNonFinite(row.data() + c + 1, cols - c - 1)) {
      if (band.n_bad++ == 0) {
        band.bad_row = band.row_begin + r;
        band.bad_col = c;
        band.bad_value = row[c];
      }
    }
  }
}

Finding NonFiniteFinding(const TensorStore& store, const Band& first, uint64_t n_bad) {
  const StoredPlace place = store.PlaceOf(first.tensor, first.bad_row, first.bad_col);
  Error error = DataError("check.non-finite", fmt::format("{} weights are NaN or infinite", n_bad));
  error.File(Escaped(place.file, 4096))
      .Where(fmt::format("tensor {}, first at row {}, column {}",
                         Quoted(store.manifest().tensors[first.tensor].name), first.bad_row,
                         first.bad_col))
      .Found(fmt::format("{}", first.bad_value))
      .Expected("finite values");
  if (place.byte_offset) error.Offset(*place.byte_offset);
  return FindingFrom(error);
}

// Joins the bands of each tensor, which come in order, into findings.
class Collector {
 public:
  explicit Collector(const TensorStore& store) : store_(store) {}

  void Add(const Band& band) {
    if (current_ && current_->tensor != band.tensor) Flush();
    if (!current_) current_ = band;
    if (!fault_ && band.read_fault) fault_ = band.read_fault;
    if (n_bad_ == 0 && band.n_bad != 0) first_bad_ = band;
    n_bad_ += band.n_bad;
  }
  std::vector<Finding> Take() {
    Flush();
    return std::move(findings_);
  }

 private:
  void Flush() {
    if (fault_) findings_.push_back(*fault_);
    if (n_bad_ != 0) findings_.push_back(NonFiniteFinding(store_, first_bad_, n_bad_));
    current_.reset();
    fault_.reset();
    n_bad_ = 0;
  }

  const TensorStore& store_;
  std::vector<Finding> findings_;
  std::optional<Band> current_;
  std::optional<Finding> fault_;
  Band first_bad_;
  uint64_t n_bad_ = 0;
};

}  // namespace

std::vector<Finding> CheckWeights(const TensorStore& store, const IntegrityOptions& options) {
  const std::vector<TensorInfo>& tensors = store.manifest().tensors;
  std::vector<BandedTensor> banded;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (FindCodec(tensors[i].dtype) == nullptr || tensors[i].cols() == 0) continue;
    banded.push_back(
        {i, tensors[i].rows(), tensors[i].row_bytes(), sizeof(float) * tensors[i].cols()});
  }
  Collector collector(store);
  ForEachBand("checking", store.name(), banded, options, [&](const RowBand& rows) {
    Band band;
    static_cast<RowBand&>(band) = rows;
    Inspect(store, band);
    return [&collector, band] { collector.Add(band); };
  });
  std::vector<Finding> findings = collector.Take();
  for (const TensorInfo& tensor : tensors) {
    if (FindCodec(tensor.dtype) != nullptr) continue;
    findings.push_back(
        {Finding::Severity::kNote, "check.not-decoded",
         fmt::format("{}: values not checked, tensor {} is of type {} [check.not-decoded]",
                     Escaped(store.name(), 4096), Quoted(tensor.name), NameOf(tensor.dtype)),
         ""});
  }
  return findings;
}

}  // namespace quern
