// What both readers of QPACK share: decoders and pieces in bounded memory, work in parallel, errors
// that name their place.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "formats/qpack_layout.h"
#include "formats/qpack_parts.h"
#include "formats/qpack_segment.h"
#include "formats/scratch.h"

namespace quern {

// What a reader takes at most for its decoders, and for pieces that it keeps or unpacks ahead.
inline constexpr uint64_t kQpackDecoderBytes = uint64_t{24} << 20;
inline constexpr uint64_t kQpackAheadBytes = uint64_t{8} << 20;
inline constexpr uint64_t kQpackReadingBytes = kQpackDecoderBytes + kQpackAheadBytes;

// Decoders with their memory, as many as threads want and kQpackDecoderBytes allow, at least one.
class QpackDecoders {
 public:
  struct Worker {
    Scratch packed;
    QpackSegmentDecoder decoder;
    uint64_t bytes = 0;  // that it may hold
  };
  static uint64_t WorkerBytes(uint32_t segment_bytes);
  // Returns how many there may be for segments of that size.
  static size_t Limit(uint32_t segment_bytes);

  // Calls `action` with a worker that nobody else has, after waiting for one if there are too many.
  // Requires: `action` does not wait for other threads.
  template <typename Action>
  auto With(uint32_t segment_bytes, const Action& action) {
    std::unique_ptr<Worker> worker = Take(WorkerBytes(segment_bytes));
    struct Return {
      QpackDecoders& owner;
      std::unique_ptr<Worker>& worker;
      ~Return() { owner.Give(std::move(worker)); }
    } const give_back{*this, worker};
    return action(*worker);
  }

 private:
  std::unique_ptr<Worker> Take(uint64_t bytes);
  void Give(std::unique_ptr<Worker> worker) noexcept;

  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<Worker>> idle_;
  uint64_t busy_bytes_ = 0, idle_bytes_ = 0;
};

// Pieces of which a part was wanted, in case the rest is wanted next: the ones used last, of all
// archives that share the cache, in kQpackAheadBytes.
class QpackPieceCache {
 public:
  // Calls `use` with the piece's bytes, which `fill` makes where they are not kept. Several threads
  // that want one piece wait for the first.
  // Requires: `fill` and `use` do not wait for other threads.
  void With(uint64_t archive, uint64_t segment, uint32_t n_bytes,
            const std::function<void(MutableByteView)>& fill,
            const std::function<void(ByteView)>& use);

 private:
  struct Slot {
    std::mutex mutex;
    std::vector<uint8_t> bytes;
    bool is_filled = false;
  };
  struct Entry {
    uint64_t archive = 0, segment = 0, n_bytes = 0, used_at = 0;
    std::shared_ptr<Slot> slot;
  };
  std::shared_ptr<Slot> SlotOf(uint64_t archive, uint64_t segment, uint32_t n_bytes);

  std::mutex mutex_;
  std::vector<Entry> entries_;
  uint64_t n_bytes_ = 0, clock_ = 0;
};

// Shared by all parts of a split model.
struct QpackWorkspace {
  QpackDecoders decoders;
  QpackPieceCache cache;
  std::atomic<uint64_t> n_archives = 0;  // by which pieces of different ones are told apart
};

// Calls `action(i, w)` for all i below n, w being one of `n_workers` workers, which do one thing at
// a time. What the smallest i throws is thrown.
void ForEachInParallel(size_t n, size_t n_workers,
                       const std::function<void(size_t i, size_t worker)>& action);

// How the segments of a GGUF header are read, one after the other.
class QpackHeaderSource {
 public:
  virtual ~QpackHeaderSource() = default;
  // Goes on to that segment; returns its bytes in the QPACK.
  virtual uint64_t PackedBytes(const QpackPiece& piece) = 0;
  // Unpacks it.
  virtual void Unpack(const QpackPiece& piece, MutableByteView out) = 0;
};

// Unpacks the GGUF header, as far as QpackHeaderBudget allows, and returns how the rest is cut.
// `pieces`, if given, receives the header's bytes. `file` is for messages.
// Throws: as `source`; Error kData "qpack.header-bomb", "qpack.prologue".
QpackLayout ReadQpackLayout(const QpackPrologue& prologue, QpackHeaderSource& source,
                            const std::string& file,
                            std::deque<std::vector<uint8_t>>* pieces = nullptr);

// Puts into `error` which segment it is about.
Error PlacedAtSegment(Error error, const std::string& file, const QpackLayout& layout,
                      const QpackPiece& piece, uint64_t packed_offset);

}  // namespace quern
