// What both readers of QPACK share: segments unpacked in parallel, and errors that name their
// place.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "formats/qpack_layout.h"
#include "formats/qpack_segment.h"

namespace quern {

// Unpacked bytes that are held at once: what a reader keeps, what a stream unpacks ahead.
inline constexpr uint64_t kQpackAheadBytes = uint64_t{16} << 20;

// Decoders with their memory, as many as threads ever used one at once.
class QpackDecoders {
 public:
  struct Worker {
    std::vector<uint8_t> packed;
    QpackSegmentDecoder decoder;
  };
  // Calls `action` with a worker that nobody else has.
  template <typename Action>
  auto With(const Action& action) {
    std::unique_ptr<Worker> worker = Take();
    struct Return {
      QpackDecoders& owner;
      std::unique_ptr<Worker>& worker;
      ~Return() { owner.Give(std::move(worker)); }
    } const give_back{*this, worker};
    return action(*worker);
  }

 private:
  std::unique_ptr<Worker> Take();
  void Give(std::unique_ptr<Worker> worker) noexcept;

  std::mutex mutex_;
  std::vector<std::unique_ptr<Worker>> idle_;
};

// Calls `action(i)` for all i below n, in parallel. What the smallest i throws is thrown.
void ForEachInParallel(size_t n, const std::function<void(size_t)>& action);

// Puts into `error` which segment it is about. `names` are the tensors' names.
Error PlacedAtSegment(Error error, const std::string& file, const QpackPiece& piece,
                      uint64_t packed_offset, const std::vector<std::string>& names);

std::vector<std::string> TensorNames(const GgufHeader& header);

// Bytes in memory as a stream of unknown length: a GGUF header whose file is to come.
class ViewStream final : public ByteStream {
 public:
  // Requires: both outlive it.
  ViewStream(ByteView bytes, const std::string& name) : bytes_(bytes), name_(name) {}
  const std::string& name() const override { return name_; }
  std::optional<uint64_t> size_bytes() const override { return std::nullopt; }
  size_t Read(MutableByteView out) override;

 private:
  ByteView bytes_;
  const std::string& name_;
};

}  // namespace quern
