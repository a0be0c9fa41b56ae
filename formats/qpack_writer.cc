#include "formats/qpack_writer.h"

#include <fmt/format.h>
#include <oneapi/tbb/enumerable_thread_specific.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "formats/buffered_stream.h"
#include "formats/core/check.h"
#include "formats/gguf_reader.h"
#include "formats/integrity_trailer.h"
#include "formats/qpack_archive.h"
#include "formats/qpack_format.h"
#include "formats/qpack_parts.h"

namespace quern {
namespace {

constexpr size_t kReadBytes = size_t{4} << 20;

// A stream that keeps what was read, so that a header can be parsed and passed on.
class RecordingStream final : public ByteStream {
 public:
  explicit RecordingStream(ByteStream& inner) : inner_(inner) {}
  const std::string& name() const override { return inner_.name(); }
  std::optional<uint64_t> size_bytes() const override { return inner_.size_bytes(); }
  size_t Read(MutableByteView out) override {
    const size_t n = inner_.Read(out);
    read_.insert(read_.end(), out.begin(), out.begin() + static_cast<ptrdiff_t>(n));
    position_ += n;
    return n;
  }
  std::vector<uint8_t> Take() { return std::move(read_); }

 private:
  ByteStream& inner_;
  std::vector<uint8_t> read_;
};

class QpackOutput final : public Output {
 public:
  QpackOutput(std::unique_ptr<Output> output, const QpackWriteOptions& options)
      : output_(std::move(output)), options_(options) {}
  const std::string& name() const override { return output_->name(); }

  void Write(ByteView bytes) override {
    if (!layout_) Begin(bytes);
    while (!bytes.empty()) {
      const size_t n = std::min<size_t>(bytes.size(), kQpackAheadBytes - pending_.size());
      pending_.insert(pending_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n));
      bytes = bytes.subspan(n);
      if (pending_.size() == kQpackAheadBytes) PackPending(/*is_end=*/false);
    }
  }

  void Commit() override {
    QUERN_CHECK(layout_.has_value());
    PackPending(/*is_end=*/true);
    QUERN_CHECK(pending_.empty() && next_ >= layout_->tail_begin());
    output_->Write(EncodeQpackEnd(next_, directory_));
    output_->Commit();
  }

 private:
  void Begin(ByteView first) {
    ViewStream stream(first, name());
    const GgufHeader header = ReadGgufHeader(stream);
    header_bytes_ = header.header_bytes;
    layout_ = QpackLayout(header, options_.segment_bytes);
    output_->Write(EncodeQpackPrologue({options_.segment_bytes, header_bytes_}));
    pending_.reserve(kQpackAheadBytes);
  }

  // Packs all whole pieces of what is pending; at the end the last one is whole as it is.
  void PackPending(bool is_end) {
    const uint64_t begin = next_;
    const uint64_t end = begin + pending_.size();
    std::vector<QpackPiece> pieces;
    while (next_ < end) {
      const QpackPiece piece = layout_->PieceAt(next_, is_end ? end : UINT64_MAX);
      if (piece.end() > end) break;
      pieces.push_back(piece);
      next_ = piece.end();
    }
    if (packed_.size() < pieces.size()) packed_.resize(pieces.size());
    const auto RawOf = [&](const QpackPiece& piece) {
      return ByteView(pending_).subspan(piece.begin - begin, piece.bytes);
    };
    ForEachInParallel(pieces.size(), [&](size_t i) {
      encoders_.local().Encode(RawOf(pieces[i]), *pieces[i].split, pieces[i].segment,
                               options_.level,
                               /*store_only=*/false, packed_[i]);
    });
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (pieces[i].begin < header_bytes_) {
        // A reader would not unpack a header that is so much longer than its packed bytes.
        if (!budget_.Allows(pieces[i].bytes, packed_[i].size())) {
          encoders_.local().Encode(RawOf(pieces[i]), *pieces[i].split, pieces[i].segment,
                                   options_.level,
                                   /*store_only=*/true, packed_[i]);
        }
        budget_.Add(pieces[i].bytes, packed_[i].size());
      }
      output_->Write(packed_[i]);
      directory_.push_back(static_cast<uint32_t>(packed_[i].size()));
    }
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<ptrdiff_t>(next_ - begin));
  }

  std::unique_ptr<Output> output_;
  const QpackWriteOptions options_;
  std::optional<QpackLayout> layout_;
  uint64_t header_bytes_ = 0;
  QpackHeaderBudget budget_;
  uint64_t next_ = 0;             // offset in the GGUF file of the first pending byte
  std::vector<uint8_t> pending_;  // not yet packed
  std::vector<std::vector<uint8_t>> packed_;
  std::vector<uint32_t> directory_;
  tbb::enumerable_thread_specific<QpackSegmentEncoder> encoders_;
};

// Carries a GGUF stream into an output, and compares it with its trailer on the way.
class GgufCopy {
 public:
  GgufCopy(ByteStream& gguf, Output& output, Progress* progress)
      : gguf_(gguf), output_(output), progress_(progress) {}

  uint64_t Run() {
    {
      RecordingStream recording(gguf_);
      header_ = ReadGgufHeader(recording);
      output_.Write(recording.Take());
    }
    tensors_.tensors = header_.tensors;
    TrailerVerifier verifier(header_, tensors_, gguf_.name());
    const auto keep_if_changed = [&](ByteView bytes) {
      if (verifier.HeaderIsChanged()) Keep(bytes);
    };
    buffer_.resize(kReadBytes);
    at_ = header_.header_bytes;
    for (size_t i = 0; i < header_.tensors.size(); ++i) {
      const uint64_t n_bytes = header_.tensors[i].size_bytes();
      if (n_bytes == 0) continue;
      const uint64_t begin = header_.data_offset + header_.offsets[i];
      Copy(begin - at_, i, keep_if_changed);
      Copy(n_bytes, i, [&](ByteView bytes) {
        verifier.Add({i, 0, 0, bytes});
        keep_if_changed(bytes);
      });
    }
    // Padding behind the last tensor may lack.
    Copy(header_.data_end - at_, std::nullopt, keep_if_changed);
    Copy(UINT64_MAX, std::nullopt, [&](ByteView bytes) { Keep(bytes); });
    const TrailerVerdict verdict =
        verifier.Finish(last_bytes_, std::max(header_.data_end, at_) - header_.data_end);
    if (!verdict.errors.empty()) throw verdict.errors.front();
    return at_;
  }

 private:
  template <typename Look>
  void Copy(uint64_t n_bytes, std::optional<size_t> needed_by, const Look& look) {
    while (n_bytes != 0) {
      const auto want = MutableByteView(buffer_).first(std::min<uint64_t>(n_bytes, kReadBytes));
      const ByteView bytes = want.first(gguf_.Read(want));
      look(bytes);
      output_.Write(bytes);
      if (progress_ != nullptr) progress_->Advance(bytes.size());
      at_ += bytes.size();
      n_bytes -= bytes.size();
      if (bytes.size() == want.size()) continue;
      if (!needed_by) return;
      throw DataError("gguf.tensor-past-eof", "stream ends inside the tensor's data")
          .File(Escaped(gguf_.name(), 4096))
          .Where("tensor " + Quoted(header_.tensors[*needed_by].name))
          .Offset(at_)
          .Found(fmt::format("{} bytes in all", at_))
          .Hint("whatever writes into the pipe stopped before its end");
    }
  }

  // Keeps the file's last bytes, as many as the longest trailer has.
  void Keep(ByteView bytes) {
    last_bytes_.insert(last_bytes_.end(), bytes.begin(), bytes.end());
    if (last_bytes_.size() > 2 * kMaxTrailerBytes) {
      last_bytes_.erase(last_bytes_.begin(), last_bytes_.end() - ptrdiff_t{kMaxTrailerBytes});
    }
  }

  ByteStream& gguf_;
  Output& output_;
  Progress* progress_;
  GgufHeader header_;
  Manifest tensors_;  // nothing else: pack interprets no metadata
  std::vector<uint8_t> buffer_, last_bytes_;
  uint64_t at_ = 0;
};

}  // namespace

std::unique_ptr<Output> MakeQpackOutput(std::unique_ptr<Output> output,
                                        const QpackWriteOptions& options) {
  return std::make_unique<QpackOutput>(std::move(output), options);
}

uint64_t PackGguf(ByteStream& gguf, std::unique_ptr<Output> output,
                  const QpackWriteOptions& options, Progress* progress) {
  const auto packed = MakeQpackOutput(std::move(output), options);
  BufferedStream buffered(gguf);
  const uint64_t n_bytes = GgufCopy(buffered, *packed, progress).Run();
  packed->Commit();
  return n_bytes;
}

}  // namespace quern
