// The GGUF file inside a QPACK that comes through a stream (declared in formats/qpack_reader.h).
#include <fmt/format.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>
#include <utility>

#include "formats/qpack_archive.h"
#include "formats/qpack_format.h"
#include "formats/qpack_parts.h"
#include "formats/qpack_reader.h"

namespace quern {
namespace {

class Unpacking final : public ByteStream, private QpackHeaderSource {
 public:
  explicit Unpacking(std::unique_ptr<ByteStream> qpack) : qpack_(std::move(qpack)) {}
  const std::string& name() const override { return qpack_->name(); }
  std::optional<uint64_t> size_bytes() const override { return std::nullopt; }
  uint64_t reading_bytes() const override { return kQpackReadingBytes; }

  size_t Read(MutableByteView out) override {
    if (!layout_) ReadHeader();
    MutableByteView rest = out;
    while (!rest.empty() && (TakeHeader(rest) || TakeAhead(rest) || UnpackMore(rest))) {
    }
    position_ += out.size() - rest.size();
    return out.size() - rest.size();
  }

 private:
  // A segment on its way: read, not yet unpacked.
  struct Segment {
    QpackPiece piece;
    uint64_t packed_offset = 0;
    QpackSegmentHead head;
    Scratch bytes;
    size_t n_bytes = 0;
    ByteView view() { return bytes.Room(n_bytes); }
  };

  Error Truncated(std::string_view what) const {
    return QpackError("qpack.truncated", what, name())
        .Offset(qpack_->position())
        .Hint("the file is incomplete, or whatever writes into the pipe stopped before its end");
  }
  void ReadExactly(MutableByteView out, const QpackPiece* piece, std::string_view what) {
    if (qpack_->Read(out) == out.size()) return;
    Error error = Truncated(fmt::format("stream ends inside {}", what));
    if (piece != nullptr && layout_) {
      const auto tensors = layout_->TensorsIn(*piece);
      if (tensors.n != 0) error.Tensor(tensors.first, fmt::format("segment {}", piece->segment));
    }
    throw error;
  }

  // Reads the segment of `piece`. Where the file may end, the piece may be shorter than it was
  // thought, or be none but the mark of the end: returns false for that.
  bool ReadSegment(QpackPiece piece, bool may_end, Segment& segment) {
    segment.packed_offset = qpack_->position();
    uint8_t head_bytes[kQpackSegmentHeadBytes];
    ReadExactly({head_bytes, 8}, &piece, "a segment");
    if (may_end && LoadLE<uint64_t>(head_bytes) == 0) return false;
    ReadExactly({head_bytes + 8, 8}, &piece, "a segment");
    const auto head = QpackSegmentHead::Load(head_bytes);
    const auto Bad = [&](std::string_view what, uint64_t found, std::string_view expected) {
      const Error error = DataError("qpack.segment", what)
                              .Found(fmt::format("{} bytes", found))
                              .Expected(expected);
      return Placed(error, piece, segment.packed_offset);
    };
    if (head.raw_bytes != piece.bytes) {
      // The last segment, and only that one, may be shorter.
      const uint64_t end = piece.begin + head.raw_bytes;
      const bool may_be_shorter = may_end || (layout_ && end >= layout_->least_bytes());
      if (head.raw_bytes == 0 || head.raw_bytes > piece.bytes || !may_be_shorter || has_ended_) {
        throw Bad("segment holds another number of bytes than belong there", head.raw_bytes,
                  fmt::format("{} bytes", has_ended_ ? 0 : piece.bytes));
      }
      piece.bytes = head.raw_bytes;
      has_ended_ = true;
    } else if (has_ended_) {
      throw Bad("segment follows the last one", head.raw_bytes, "the end");
    }
    if (head.packed_bytes > head.raw_bytes) {
      throw Bad("segment is longer than it can be", head.packed_bytes,
                fmt::format("at most {} bytes", head.raw_bytes));
    }
    segment.piece = piece;
    segment.head = head;
    segment.n_bytes = kQpackSegmentFrameBytes + head.packed_bytes;
    const MutableByteView bytes = segment.bytes.Room(segment.n_bytes);
    std::memcpy(bytes.data(), head_bytes, sizeof head_bytes);
    ReadExactly(bytes.subspan(sizeof head_bytes), &piece, "a segment");
    directory_.push_back(static_cast<uint32_t>(segment.n_bytes));
    next_ += piece.bytes;
    return true;
  }

  Error Placed(Error error, const QpackPiece& piece, uint64_t packed_offset) const {
    const QpackLayout none(prologue_.segment_bytes);
    return PlacedAtSegment(std::move(error), name(), layout_ ? *layout_ : none, piece,
                           packed_offset);
  }

  void UnpackInto(Segment& segment, const QpackShape& shape, MutableByteView out) {
    auto error = decoders_.With(prologue_.segment_bytes, [&](QpackDecoders::Worker& worker) {
      return worker.decoder.Decode(segment.view(), shape, segment.piece.segment, out);
    });
    if (error) throw Placed(*std::move(error), segment.piece, segment.packed_offset);
  }

  // ---- The header, which says how the rest is cut ----

  void ReadHeader() {
    uint8_t bytes[kQpackPrologueBytes];
    ReadExactly(bytes, nullptr, "its first 32 bytes");
    prologue_ = ParseQpackPrologue(bytes, name());
    batch_.resize(1);
    layout_ = ReadQpackLayout(prologue_, *this, name(), &header_);
  }
  uint64_t PackedBytes(const QpackPiece& piece) override {
    ReadSegment(piece, false, batch_[0]);
    return batch_[0].n_bytes;
  }
  void Unpack(const QpackPiece& piece, MutableByteView out) override {
    const QpackLayout bytes_only(prologue_.segment_bytes);
    UnpackInto(batch_[0], bytes_only.ShapeOf(piece), out);
  }

  bool TakeHeader(MutableByteView& out) {
    if (header_.empty()) return false;
    const ByteView bytes = ByteView(header_.front()).subspan(header_at_);
    const size_t n = std::min(out.size(), bytes.size());
    std::ranges::copy(bytes.first(n), out.begin());
    out = out.subspan(n);
    header_at_ += n;
    if (header_at_ == header_.front().size()) {
      header_.pop_front();
      header_at_ = 0;
    }
    return true;
  }

  // ---- What follows ----

  // Gives what is unpacked already.
  bool TakeAhead(MutableByteView& out) {
    const size_t n = std::min<size_t>(out.size(), ahead_end_ - ahead_at_);
    if (n == 0) return false;
    std::memcpy(out.data(), ahead_.Room(ahead_end_).data() + ahead_at_, n);
    out = out.subspan(n);
    ahead_at_ += n;
    return true;
  }

  // Unpacks the pieces that fit into `out` in place; where none does, some ahead. Returns false at
  // the end.
  bool UnpackMore(MutableByteView& out) {
    if (is_finished_) return false;
    const bool in_place = NextPiece().bytes <= out.size();
    // A reader that wants whole pieces will want the next ones in place, too.
    const bool takes_much = std::exchange(last_was_in_place_, in_place);
    const uint64_t room = in_place     ? out.size()
                          : takes_much ? NextPiece().bytes
                                       : std::max<uint64_t>(kQpackAheadBytes,
                                                            prologue_.segment_bytes);
    const uint64_t begin = next_;
    const size_t n = ReadBatch(room);
    const uint64_t n_bytes = next_ - begin;
    const MutableByteView unpacked = in_place ? out.first(n_bytes) : ahead_.Room(n_bytes);
    ForEachInParallel(n, QpackDecoders::Limit(prologue_.segment_bytes), [&](size_t i, size_t) {
      const QpackPiece& piece = batch_[i].piece;
      UnpackInto(batch_[i], layout_->ShapeOf(piece),
                 unpacked.subspan(piece.begin - begin, piece.bytes));
    });
    if (at_end_mark_) ReadEnd();
    if (in_place) {
      out = out.subspan(n_bytes);
    } else {
      ahead_at_ = 0;
      ahead_end_ = n_bytes;
    }
    return true;
  }

  QpackPiece NextPiece() const { return layout_->PieceAt(directory_.size(), next_, UINT64_MAX); }

  // Reads segments, as many as threads can use and `room` bytes can take. Returns how many.
  size_t ReadBatch(uint64_t room) {
    const auto n_threads =
        static_cast<size_t>(std::max(1, tbb::this_task_arena::max_concurrency()));
    batch_.resize(std::min(n_threads, QpackDecoders::Limit(prologue_.segment_bytes)));
    size_t n = 0;
    const uint64_t end = next_ + room;
    while (n < batch_.size() && !at_end_mark_) {
      const QpackPiece piece = NextPiece();
      if (piece.end() > end) break;
      at_end_mark_ = !ReadSegment(piece, next_ >= layout_->least_bytes(), batch_[n]);
      if (!at_end_mark_) ++n;
    }
    return n;
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
  QpackPrologue prologue_;
  std::optional<QpackLayout> layout_;
  std::deque<std::vector<uint8_t>> header_;  // what of it was not given yet
  size_t header_at_ = 0;                     // in the first of them
  std::vector<uint32_t> directory_;          // of the segments so far
  uint64_t next_ = 0;                        // offset in the GGUF file of the next segment's piece
  bool has_ended_ = false;                   // a short piece came
  bool at_end_mark_ = false;
  bool is_finished_ = false;
  bool last_was_in_place_ = false;
  std::vector<Segment> batch_;
  Scratch ahead_;
  size_t ahead_at_ = 0, ahead_end_ = 0;
  QpackDecoders decoders_;
};

}  // namespace

std::unique_ptr<ByteStream> UnpackStream(std::unique_ptr<ByteStream> qpack) {
  return std::make_unique<Unpacking>(std::move(qpack));
}

}  // namespace quern
