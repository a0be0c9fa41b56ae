#include "formats/qpack_writer.h"

#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "formats/core/check.h"
#include "formats/gguf_copy.h"
#include "formats/gguf_outline.h"
#include "formats/qpack_archive.h"
#include "formats/qpack_parts.h"
#include "formats/view_stream.h"

namespace quern {
namespace {

// Pieces that wait for each worker: one that is slow keeps the others for a while only.
constexpr size_t kPiecesPerWorker = 2;

size_t WorkersFor(const QpackWriteOptions& options) {
  const auto n_threads =
      static_cast<size_t>(std::max(1, tbb::this_task_arena::max_concurrency()));
  return std::clamp<size_t>(options.memory_bytes / QpackWritingBytes(options, 1), 1, n_threads);
}

class QpackOutput final : public Output {
 public:
  QpackOutput(std::unique_ptr<Output> output, const QpackWriteOptions& options)
      : output_(std::move(output)), options_(options) {}
  const std::string& name() const override { return output_->name(); }

  void Write(ByteView bytes) override {
    if (!layout_) Begin(bytes);
    while (!bytes.empty()) {
      const size_t n = std::min<size_t>(bytes.size(), pending_capacity_ - n_pending_);
      std::ranges::copy(bytes.first(n), pending().begin() + static_cast<ptrdiff_t>(n_pending_));
      n_pending_ += n;
      bytes = bytes.subspan(n);
      if (n_pending_ == pending_capacity_) PackPending(/*is_end=*/false);
    }
  }

  void Commit() override {
    QUERN_CHECK(layout_.has_value());
    PackPending(/*is_end=*/true);
    output_->Write(EncodeQpackEnd(next_, directory_));
    output_->Commit();
  }

 private:
  void Begin(ByteView first) {
    ViewStream stream(first, name());
    auto outline = ReadGgufOutline(stream);
    header_bytes_ = outline ? outline->header_bytes : 0;
    layout_ = outline ? QpackLayout(*std::move(outline), options_.segment_bytes)
                      : QpackLayout(options_.segment_bytes);
    output_->Write(EncodeQpackPrologue({options_.segment_bytes, header_bytes_}));
    encoders_.resize(WorkersFor(options_));
    pending_capacity_ = encoders_.size() * kPiecesPerWorker * options_.segment_bytes;
  }

  MutableByteView pending() { return pending_.Room(pending_capacity_); }

  // Packs all whole pieces of what is pending; at the end the last one is whole as it is.
  void PackPending(bool is_end) {
    const uint64_t begin = next_;
    const uint64_t end = begin + n_pending_;
    QUERN_CHECK(!is_end || end >= layout_->least_bytes());
    std::vector<QpackPiece> pieces;
    while (next_ < end) {
      const QpackPiece piece =
          layout_->PieceAt(directory_.size() + pieces.size(), next_, is_end ? end : UINT64_MAX);
      if (piece.end() > end) break;
      pieces.push_back(piece);
      next_ = piece.end();
    }
    if (packed_.size() < pieces.size()) packed_.resize(pieces.size());
    const auto Encode = [&](size_t i, size_t worker, bool store_only) {
      const ByteView raw = pending().subspan(pieces[i].begin - begin, pieces[i].bytes);
      encoders_[worker].Encode(raw, layout_->ShapeOf(pieces[i]), pieces[i].segment, options_.level,
                               store_only, packed_[i]);
    };
    ForEachInParallel(pieces.size(), encoders_.size(),
                      [&](size_t i, size_t worker) { Encode(i, worker, false); });
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (pieces[i].begin < header_bytes_) {
        // A reader would not unpack a header that is so much longer than its packed bytes.
        if (!budget_.Allows(pieces[i].bytes, packed_[i].size())) Encode(i, 0, true);
        budget_.Add(pieces[i].bytes, packed_[i].size());
      }
      output_->Write(packed_[i]);
      directory_.push_back(static_cast<uint32_t>(packed_[i].size()));
    }
    const MutableByteView rest = pending().subspan(next_ - begin, end - next_);
    std::ranges::copy(rest, pending().begin());
    n_pending_ = rest.size();
  }

  std::unique_ptr<Output> output_;
  QpackWriteOptions options_;
  uint64_t header_bytes_ = 0;
  std::optional<QpackLayout> layout_;
  QpackHeaderBudget budget_;
  uint64_t next_ = 0;  // offset in the GGUF file of the first byte that is not packed yet
  Scratch pending_;    // the bytes from there on
  size_t n_pending_ = 0, pending_capacity_ = 0;
  std::vector<std::vector<uint8_t>> packed_;
  std::vector<uint32_t> directory_;            // of the segments that are written
  std::vector<QpackSegmentEncoder> encoders_;  // of each worker
};

}  // namespace

uint64_t QpackWritingBytes(const QpackWriteOptions& options, size_t n_workers) {
  // Each piece as it waits and packed.
  return n_workers * (QpackSegmentEncoder::MemoryBytes(options.segment_bytes, options.level) +
                      2 * kPiecesPerWorker * options.segment_bytes);
}

std::unique_ptr<Output> MakeQpackOutput(std::unique_ptr<Output> output,
                                        const QpackWriteOptions& options) {
  return std::make_unique<QpackOutput>(std::move(output), options);
}

uint64_t PackGguf(ByteStream& gguf, std::unique_ptr<Output> output,
                  const QpackWriteOptions& options, uint64_t max_header_bytes,
                  Progress* progress) {
  const auto packed = MakeQpackOutput(std::move(output), options);
  const uint64_t n_bytes = CopyGguf(gguf, *packed, max_header_bytes, progress);
  packed->Commit();
  return n_bytes;
}

}  // namespace quern
