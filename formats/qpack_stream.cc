// The GGUF file inside a QPACK that comes through a stream (declared in formats/qpack_reader.h).
#include <fmt/format.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <cstring>

#include "formats/core/check.h"
#include "formats/qpack_archive.h"
#include "formats/qpack_format.h"
#include "formats/qpack_parts.h"
#include "formats/qpack_reader.h"

namespace quern {
namespace {

class Unpacking final : public ByteStream {
 public:
  explicit Unpacking(std::unique_ptr<ByteStream> qpack) : qpack_(std::move(qpack)) {}
  const std::string& name() const override { return qpack_->name(); }
  std::optional<uint64_t> size_bytes() const override { return std::nullopt; }

  size_t Read(MutableByteView out) override {
    size_t done = 0;
    while (done < out.size()) {
      if (at_ == unpacked_.size()) {
        if (is_finished_) break;
        at_ = 0;
        unpacked_.clear();
        prologue_ ? ReadBatch() : ReadHeader();
        continue;
      }
      const size_t n = std::min(out.size() - done, unpacked_.size() - at_);
      std::memcpy(out.data() + done, unpacked_.data() + at_, n);
      at_ += n;
      done += n;
    }
    position_ += done;
    return done;
  }

 private:
  // A segment on its way: read, not yet unpacked.
  struct Segment {
    QpackPiece piece;
    uint64_t packed_offset = 0;
    std::vector<uint8_t> bytes;
  };

  Error Truncated(std::string_view what) const {
    return QpackError("qpack.truncated", what, name())
        .Offset(qpack_->position())
        .Hint("whatever writes into the pipe stopped before its end");
  }
  void ReadExactly(MutableByteView out, const QpackPiece* piece, std::string_view what) {
    if (qpack_->Read(out) == out.size()) return;
    Error error = Truncated(fmt::format("stream ends inside {}", what));
    if (piece != nullptr && piece->tensor) error.Where("tensor " + Quoted(names_[*piece->tensor]));
    throw error;
  }

  // Reads the next segment, or, where only the tail may follow, the mark of the end.
  // Returns false for that.
  bool ReadSegment(Segment& segment) {
    const uint64_t offset = next_;
    const bool is_tail = layout_ && offset >= layout_->tail_begin();
    QpackPiece& piece = segment.piece;
    piece = layout_ ? layout_->PieceAt(offset, is_tail ? UINT64_MAX : layout_->tail_begin())
                    : HeaderPiece();
    segment.packed_offset = qpack_->position();
    uint8_t head_bytes[kQpackSegmentHeadBytes];
    ReadExactly({head_bytes, 8}, &piece, "a segment");
    if (is_tail && LoadLE<uint64_t>(head_bytes) == 0) return false;
    ReadExactly({head_bytes + 8, 8}, &piece, "a segment");
    const auto head = QpackSegmentHead::Load(head_bytes);
    const auto Bad = [&](std::string_view what, uint64_t found, uint64_t expected) {
      return PlacedAtSegment(DataError("qpack.segment", what)
                                 .Found(fmt::format("{} bytes", found))
                                 .Expected(fmt::format("at most {} bytes", expected)),
                             name(), piece, segment.packed_offset, names_);
    };
    // The last segment of the tail, and only that one, may be shorter.
    if (is_tail && !tail_has_ended_ && head.raw_bytes != 0 && head.raw_bytes < piece.bytes) {
      piece.bytes = head.raw_bytes;
      tail_has_ended_ = true;
    } else if (head.raw_bytes != piece.bytes || (is_tail && tail_has_ended_)) {
      throw Bad("segment holds another number of bytes than belong there", head.raw_bytes,
                tail_has_ended_ ? 0 : piece.bytes);
    }
    const uint64_t most = MaxQpackPayloadBytes(piece.bytes, piece.split->n_planes());
    if (head.packed_bytes > most) {
      throw Bad("segment is longer than it can be", head.packed_bytes, most);
    }
    segment.bytes.resize(kQpackSegmentFrameBytes + head.packed_bytes);
    std::memcpy(segment.bytes.data(), head_bytes, sizeof head_bytes);
    ReadExactly(MutableByteView(segment.bytes).subspan(sizeof head_bytes), &piece, "a segment");
    directory_.push_back(static_cast<uint32_t>(segment.bytes.size()));
    next_ += piece.bytes;
    return true;
  }

  QpackPiece HeaderPiece() const {
    return {directory_.size(), next_,
            static_cast<uint32_t>(
                std::min<uint64_t>(prologue_->segment_bytes, prologue_->header_bytes - next_)),
            &PlaneSplit::OfBytes(), std::nullopt};
  }

  void Unpack(const Segment& segment, MutableByteView out) {
    auto error = decoders_.With([&](QpackDecoders::Worker& worker) {
      return worker.decoder.Decode(segment.bytes, *segment.piece.split, segment.piece.segment, out);
    });
    if (error) {
      throw PlacedAtSegment(*std::move(error), name(), segment.piece, segment.packed_offset,
                            names_);
    }
  }

  // Unpacks the GGUF header, which says how the rest is cut.
  void ReadHeader() {
    uint8_t bytes[kQpackPrologueBytes];
    ReadExactly(bytes, nullptr, "its first 32 bytes");
    prologue_ = ParseQpackPrologue(bytes, name());
    QpackHeaderBudget budget;
    Segment segment;
    while (next_ < prologue_->header_bytes) {
      ReadSegment(segment);
      if (!budget.Allows(segment.piece.bytes, segment.bytes.size())) {
        throw QpackError("qpack.header-bomb", "GGUF header is too long for its packed bytes",
                         name())
            .Found(fmt::format("{} bytes", prologue_->header_bytes));
      }
      budget.Add(segment.piece.bytes, segment.bytes.size());
      unpacked_.resize(next_);
      Unpack(segment, MutableByteView(unpacked_).subspan(segment.piece.begin));
    }
    ViewStream stream(unpacked_, name());
    const GgufHeader header = ReadGgufHeader(stream);
    if (header.header_bytes != prologue_->header_bytes) {
      throw QpackError("qpack.prologue", "GGUF header has another length than is said", name())
          .Found(std::to_string(prologue_->header_bytes))
          .Expected(std::to_string(header.header_bytes));
    }
    names_ = TensorNames(header);
    layout_ = QpackLayout(header, prologue_->segment_bytes);
  }

  // Unpacks as many segments as threads can use.
  void ReadBatch() {
    const uint64_t n_threads =
        static_cast<uint64_t>(std::max(1, tbb::this_task_arena::max_concurrency()));
    const uint64_t n_wanted = std::clamp<uint64_t>(
        2 * n_threads, 1, std::max<uint64_t>(1, kQpackAheadBytes / prologue_->segment_bytes));
    batch_.resize(n_wanted);
    size_t n = 0;
    const uint64_t begin = next_;
    bool is_last = false;
    while (n < n_wanted && !is_last) {
      is_last = !ReadSegment(batch_[n]);
      if (!is_last) ++n;
    }
    unpacked_.resize(next_ - begin);
    ForEachInParallel(n, [&](size_t i) {
      const QpackPiece& piece = batch_[i].piece;
      Unpack(batch_[i], MutableByteView(unpacked_).subspan(piece.begin - begin, piece.bytes));
    });
    if (is_last) ReadEnd();
  }

  // Compares the directory with what came, and reads on to the stream's end.
  void ReadEnd() {
    const std::vector<uint8_t> expected = EncodeQpackEnd(next_, directory_);
    std::vector<uint8_t> found(expected.size() - kQpackEndMarkBytes);
    ReadExactly(found, nullptr, "the directory");
    if (!std::ranges::equal(found, ByteView(expected).subspan(kQpackEndMarkBytes))) {
      throw QpackError("qpack.directory", "directory is not that of the segments before it", name())
          .Offset(qpack_->position() - found.size());
    }
    uint8_t more[1];
    if (qpack_->Read(more) != 0) {
      throw QpackError("qpack.directory", "bytes follow the end", name())
          .Offset(qpack_->position() - 1);
    }
    is_finished_ = true;
  }

  std::unique_ptr<ByteStream> qpack_;
  std::optional<QpackPrologue> prologue_;
  std::optional<QpackLayout> layout_;
  std::vector<std::string> names_;
  std::vector<uint32_t> directory_;  // of the segments so far
  uint64_t next_ = 0;                // offset in the GGUF file of the next segment's piece
  bool tail_has_ended_ = false;
  bool is_finished_ = false;
  std::vector<Segment> batch_;
  std::vector<uint8_t> unpacked_;
  size_t at_ = 0;  // in unpacked_
  QpackDecoders decoders_;
};

}  // namespace

std::unique_ptr<ByteStream> UnpackStream(std::unique_ptr<ByteStream> qpack) {
  return std::make_unique<Unpacking>(std::move(qpack));
}

}  // namespace quern
