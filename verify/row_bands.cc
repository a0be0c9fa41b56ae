#include "verify/row_bands.h"

#include <fmt/format.h>
#include <oneapi/tbb/parallel_pipeline.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <vector>

#include "formats/core/error.h"
#include "formats/run_on_threads.h"

namespace quern {
namespace {

constexpr uint64_t kBandBytes = uint64_t{2} << 20;

// Cuts the tensors into bands.
class Cutter {
 public:
  explicit Cutter(std::span<const BandedTensor> tensors) : tensors_(tensors) {}

  // Returns the next band, or one without rows after the last.
  RowBand Next() {
    while (tensor_ < tensors_.size() && row_ == tensors_[tensor_].rows) {
      ++tensor_;
      row_ = 0;
    }
    if (tensor_ == tensors_.size()) return {};
    const BandedTensor& tensor = tensors_[tensor_];
    const uint64_t n_rows =
        std::min(tensor.rows - row_, std::max<uint64_t>(kBandBytes / tensor.row_bytes, 1));
    row_ += n_rows;
    bytes_ = n_rows * tensor.row_bytes;
    return {tensor.tensor, row_ - n_rows, n_rows};
  }
  // Of the band that Next returned last.
  uint64_t band_bytes() const { return bytes_; }

 private:
  std::span<const BandedTensor> tensors_;
  size_t tensor_ = 0;
  uint64_t row_ = 0, bytes_ = 0;
};

// Throws: Error kMemory if the widest row does not fit; returns how many bands may be alive.
size_t BandsInBudget(std::string_view file, std::span<const BandedTensor> tensors,
                     uint64_t memory_bytes, unsigned threads) {
  uint64_t largest = 1;
  for (const BandedTensor& tensor : tensors) {
    largest = std::max(largest, std::max(kBandBytes, tensor.row_bytes) + tensor.scratch_bytes);
  }
  if (largest > memory_bytes) {
    throw Error(ErrorCode::kMemory, "memory.budget", "a row of a tensor does not fit")
        .File(Escaped(file, 4096))
        .Found(fmt::format("a budget of {} bytes", memory_bytes))
        .Expected(fmt::format("at least {} bytes", largest))
        .Hint("give a larger --memory");
  }
  return static_cast<size_t>(std::min<uint64_t>(memory_bytes / largest, uint64_t{2} * threads));
}

// A band on its way through the pipeline. What flows is a pointer: oneTBB does not destroy what is
// under way when a stage throws.
struct Slot {
  RowBand band;
  uint64_t bytes = 0;
  std::function<void()> result;
};

}  // namespace

void ForEachBand(std::string_view phase, std::string_view file,
                 std::span<const BandedTensor> tensors, const BandOptions& options,
                 const BandWork& work) {
  const unsigned threads =
      options.threads != 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency());
  const size_t n_bands = BandsInBudget(file, tensors, options.memory_bytes, threads);
  uint64_t n_bytes = 0;
  for (const BandedTensor& tensor : tensors) n_bytes += tensor.rows * tensor.row_bytes;
  if (options.progress != nullptr) options.progress->Begin(phase, n_bytes, "bytes");
  Cutter cutter(tensors);
  std::vector<Slot> slots(n_bands);  // bands begin and end in order: no two live ones share a slot
  size_t n_begun = 0;
  const auto begin = [&](tbb::flow_control& control) -> Slot* {
    Slot& slot = slots[n_begun++ % n_bands];
    slot = {cutter.Next(), cutter.band_bytes(), {}};
    if (slot.band.row_count == 0) control.stop();
    return &slot;
  };
  const auto look = [&](Slot* slot) {
    slot->result = work(slot->band);
    return slot;
  };
  const auto take = [&](Slot* slot) {
    slot->result();
    slot->result = {};
    if (options.progress != nullptr) options.progress->Advance(slot->bytes);
  };
  RunOnThreads(threads, [&] {
    tbb::parallel_pipeline(
        n_bands, tbb::make_filter<void, Slot*>(tbb::filter_mode::serial_in_order, begin) &
                     tbb::make_filter<Slot*, Slot*>(tbb::filter_mode::parallel, look) &
                     tbb::make_filter<Slot*, void>(tbb::filter_mode::serial_in_order, take));
  });
  if (options.progress != nullptr) options.progress->End();
}

}  // namespace quern
