#include "verify/integrity.h"

#include <fmt/format.h>
#include <oneapi/tbb/parallel_pipeline.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <optional>
#include <thread>

#include "quant/codec.h"

namespace quern {
namespace {

constexpr uint64_t kBandBytes = uint64_t{2} << 20;

// Rows of one tensor to look at, and what was found there.
struct Band {
  size_t tensor = 0;
  uint64_t row_begin = 0;
  uint64_t row_count = 0;
  uint64_t n_bad = 0;
  uint64_t bad_row = 0, bad_col = 0;  // the first
  float bad_value = 0;
  std::optional<Finding> read_fault;
};

// Cuts the tensors that can be decoded into bands.
class Cutter {
 public:
  explicit Cutter(const TensorStore& store) : tensors_(store.manifest().tensors) {}

  std::optional<Band> Next() {
    while (tensor_ < tensors_.size() &&
           (row_ == tensors_[tensor_].rows() || tensors_[tensor_].cols() == 0 ||
            FindCodec(tensors_[tensor_].dtype) == nullptr)) {
      ++tensor_;
      row_ = 0;
    }
    if (tensor_ == tensors_.size()) return std::nullopt;
    const TensorInfo& tensor = tensors_[tensor_];
    Band band;
    band.tensor = tensor_;
    band.row_begin = row_;
    band.row_count =
        std::min(tensor.rows() - row_, std::max<uint64_t>(kBandBytes / tensor.row_bytes(), 1));
    row_ += band.row_count;
    return band;
  }

 private:
  const std::vector<TensorInfo>& tensors_;
  size_t tensor_ = 0;
  uint64_t row_ = 0;
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

// Throws: Error kMemory if the widest row does not fit; returns how many bands may be alive.
size_t BandsInBudget(const TensorStore& store, uint64_t memory_bytes, unsigned threads) {
  uint64_t largest = 1;
  for (const TensorInfo& tensor : store.manifest().tensors) {
    largest = std::max(largest, std::max(kBandBytes, tensor.row_bytes()) + 4 * tensor.cols());
  }
  if (largest > memory_bytes) {
    throw Error(ErrorCode::kMemory, "memory.budget", "a row of a tensor does not fit")
        .File(Escaped(store.name(), 4096))
        .Found(fmt::format("a budget of {} bytes", memory_bytes))
        .Expected(fmt::format("at least {} bytes", largest))
        .Hint("give a larger --memory");
  }
  return static_cast<size_t>(std::min<uint64_t>(memory_bytes / largest, uint64_t{2} * threads));
}

}  // namespace

std::vector<Finding> CheckWeights(const TensorStore& store, const IntegrityOptions& options) {
  const unsigned threads =
      options.threads != 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency());
  const size_t n_bands = BandsInBudget(store, options.memory_bytes, threads);
  Cutter cutter(store);
  Collector collector(store);
  if (options.progress != nullptr) {
    options.progress->Begin("checking", store.manifest().tensor_bytes(), "bytes");
  }
  tbb::task_arena arena(static_cast<int>(threads));
  arena.execute([&] {
    tbb::parallel_pipeline(
        n_bands,
        tbb::make_filter<void, Band>(tbb::filter_mode::serial_in_order,
                                     [&](tbb::flow_control& control) {
                                       std::optional<Band> band = cutter.Next();
                                       if (!band) control.stop();
                                       return band.value_or(Band{});
                                     }) &
            tbb::make_filter<Band, Band>(tbb::filter_mode::parallel,
                                         [&](Band band) {
                                           Inspect(store, band);
                                           return band;
                                         }) &
            tbb::make_filter<Band, void>(tbb::filter_mode::serial_in_order, [&](const Band& band) {
              collector.Add(band);
              if (options.progress != nullptr) {
                options.progress->Advance(band.row_count *
                                          store.manifest().tensors[band.tensor].row_bytes());
              }
            }));
  });
  std::vector<Finding> findings = collector.Take();
  for (const TensorInfo& tensor : store.manifest().tensors) {
    if (FindCodec(tensor.dtype) != nullptr) continue;
    findings.push_back(
        {Finding::Severity::kNote, "check.not-decoded",
         fmt::format("{}: values not checked, tensor {} is of type {} [check.not-decoded]",
                     Escaped(store.name(), 4096), Quoted(tensor.name), NameOf(tensor.dtype)),
         ""});
  }
  if (options.progress != nullptr) options.progress->End();
  return findings;
}

}  // namespace quern
