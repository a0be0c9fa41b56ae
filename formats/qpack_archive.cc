#include "formats/qpack_archive.h"

#include <fmt/format.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <optional>

#include "formats/buffered_stream.h"

namespace quern {

uint64_t QpackDecoders::WorkerBytes(uint32_t segment_bytes) {
  // A segment as it is stored is hardly longer than its piece.
  return QpackSegmentDecoder::MemoryBytes(segment_bytes) + segment_bytes;
}

size_t QpackDecoders::Limit(uint32_t segment_bytes) {
  return std::max<size_t>(1, kQpackDecoderBytes / WorkerBytes(segment_bytes));
}

std::unique_ptr<QpackDecoders::Worker> QpackDecoders::Take(uint64_t bytes) {
  std::unique_lock lock(mutex_);
  returned_.wait(lock,
                 [&] { return busy_bytes_ == 0 || busy_bytes_ + bytes <= kQpackDecoderBytes; });
  std::unique_ptr<Worker> worker;
  if (!idle_.empty()) {
    worker = std::move(idle_.back());
    idle_.pop_back();
    idle_bytes_ -= worker->bytes;
  } else {
    worker = std::make_unique<Worker>();
  }
  worker->bytes = std::max(worker->bytes, bytes);
  busy_bytes_ += worker->bytes;
  return worker;
}

void QpackDecoders::Give(std::unique_ptr<Worker> worker) noexcept {
  const std::lock_guard lock(mutex_);
  busy_bytes_ -= worker->bytes;
  returned_.notify_all();
  if (busy_bytes_ + idle_bytes_ + worker->bytes > kQpackDecoderBytes) return;
  // If there is no memory for the list, the worker is freed instead of kept.
  try {
    const uint64_t bytes = worker->bytes;
    idle_.push_back(std::move(worker));
    idle_bytes_ += bytes;
  } catch (const std::bad_alloc&) {
  }
}

void QpackPieceCache::With(uint64_t archive, uint64_t segment, uint32_t n_bytes,
                           const std::function<void(MutableByteView)>& fill,
                           const std::function<void(ByteView)>& use) {
  const std::shared_ptr<Slot> slot = SlotOf(archive, segment, n_bytes);
  const std::lock_guard lock(slot->mutex);
  if (!slot->is_filled) {
    slot->bytes.resize(n_bytes);
    fill(slot->bytes);
    slot->is_filled = true;
  }
  use(slot->bytes);
}

std::shared_ptr<QpackPieceCache::Slot> QpackPieceCache::SlotOf(uint64_t archive,
                                                               uint64_t segment,
                                                               uint32_t n_bytes) {
  const std::lock_guard lock(mutex_);
  ++clock_;
  for (Entry& entry : entries_) {
    if (entry.archive != archive || entry.segment != segment) continue;
    entry.used_at = clock_;
    return entry.slot;
  }
  // One more than fits is taken where there is nothing to give up.
  while (!entries_.empty() && n_bytes_ + n_bytes > kQpackAheadBytes) {
    const auto oldest = std::ranges::min_element(entries_, {}, &Entry::used_at);
    n_bytes_ -= oldest->n_bytes;
    *oldest = std::move(entries_.back());
    entries_.pop_back();
  }
  entries_.push_back({archive, segment, n_bytes, clock_, std::make_shared<Slot>()});
  n_bytes_ += n_bytes;
  return entries_.back().slot;
}

void ForEachInParallel(size_t n, size_t n_workers,
                       const std::function<void(size_t i, size_t worker)>& action) {
  if (n == 1) return action(0, 0);
  std::vector<std::exception_ptr> errors(n);
  std::atomic<size_t> next = 0;
  const auto Work = [&](size_t worker) {
    for (size_t i = next++; i < n; i = next++) {
      try {
        action(i, worker);
      } catch (...) {
        errors[i] = std::current_exception();
      }
    }
  };
  // Isolated: a thread that waits here must not take up other work of the pass that called.
  tbb::this_task_arena::isolate([&] {
    tbb::parallel_for(size_t{0}, std::min(n, std::max<size_t>(1, n_workers)), Work,
                      tbb::simple_partitioner());
  });
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

namespace {

// The header's segments in order, as a stream that ends with them.
class HeaderStream final : public ByteStream {
 public:
  HeaderStream(const QpackPrologue& prologue, QpackHeaderSource& source, const std::string& file,
               std::deque<std::vector<uint8_t>>* pieces)
      : prologue_(prologue), source_(source), file_(file), pieces_(pieces) {}
  const std::string& name() const override { return file_; }
  std::optional<uint64_t> size_bytes() const override { return std::nullopt; }

  size_t Read(MutableByteView out) override {
    size_t done = 0;
    while (done < out.size() && (at_ < piece_.size() || NextPiece())) {
      const size_t n = std::min(out.size() - done, piece_.size() - at_);
      std::memcpy(out.data() + done, piece_.data() + at_, n);
      at_ += n;
      done += n;
    }
    position_ += done;
    return done;
  }
  // Reads what is left.
  void Finish() {
    while (NextPiece()) {
    }
    if (pieces_ != nullptr && !piece_.empty()) pieces_->push_back(std::move(piece_));
  }

 private:
  bool NextPiece() {
    const uint64_t begin = n_segments_ * prologue_.segment_bytes;
    if (begin >= prologue_.header_bytes) return false;
    const auto n_bytes = static_cast<uint32_t>(
        std::min<uint64_t>(prologue_.segment_bytes, prologue_.header_bytes - begin));
    const QpackPiece piece{n_segments_, begin, n_bytes};
    const uint64_t packed_bytes = source_.PackedBytes(piece);
    if (!budget_.Allows(n_bytes, packed_bytes)) {
      throw QpackError("qpack.header-bomb", "GGUF header is too long for its packed bytes", file_)
          .Found(fmt::format("{} bytes", prologue_.header_bytes));
    }
    budget_.Add(n_bytes, packed_bytes);
    if (pieces_ != nullptr && !piece_.empty()) pieces_->push_back(std::move(piece_));
    piece_.resize(n_bytes);
    source_.Unpack(piece, piece_);
    ++n_segments_;
    at_ = 0;
    return true;
  }

  const QpackPrologue& prologue_;
  QpackHeaderSource& source_;
  const std::string& file_;
  std::deque<std::vector<uint8_t>>* pieces_;
  QpackHeaderBudget budget_;
  std::vector<uint8_t> piece_;
  size_t at_ = 0;
  uint64_t n_segments_ = 0;
};

}  // namespace

QpackLayout ReadQpackLayout(const QpackPrologue& prologue, QpackHeaderSource& source,
                            const std::string& file, std::deque<std::vector<uint8_t>>* pieces) {
  if (prologue.header_bytes == 0) return QpackLayout(prologue.segment_bytes);
  HeaderStream stream(prologue, source, file, pieces);
  std::optional<GgufOutline> outline;
  try {
    BufferedStream buffered(stream, size_t{4} << 10);
    outline = ReadGgufOutline(buffered);
    stream.Finish();
  } catch (const Error& error) {
    if (error.id() != "gguf.truncated") throw;  // The header is longer than is said.
  }
  if (!outline || outline->header_bytes != prologue.header_bytes) {
    throw QpackError("qpack.prologue", "GGUF header has another length than is said", file)
        .Found(fmt::format("{} bytes", prologue.header_bytes));
  }
  return QpackLayout(*std::move(outline), prologue.segment_bytes);
}

Error PlacedAtSegment(Error error, const std::string& file, const QpackLayout& layout,
                      const QpackPiece& piece, uint64_t packed_offset) {
  error.File(Escaped(file, 4096))
      .Offset(packed_offset)
      .Hint("the file is damaged; fetch it again, or pack the model again");
  const std::string segment = fmt::format("segment {}", piece.segment);
  const QpackLayout::Tensors tensors = layout.TensorsIn(piece);
  if (tensors.n == 0) return error.Where(segment);
  return error.Tensor(tensors.first, tensors.n == 1 ? segment
                                                    : fmt::format("and {} more in its {}",
                                                                  tensors.n - 1, segment));
}

}  // namespace quern
