#include "formats/qpack_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "formats/buffered_stream.h"
#include "formats/core/check.h"
#include "formats/core/checked.h"
#include "formats/gguf_split.h"
#include "formats/integrity_trailer.h"
#include "formats/qpack_archive.h"
#include "formats/qpack_format.h"
#include "formats/qpack_parts.h"

namespace quern {
namespace {

// Pieces of which a part was wanted, in case the rest is wanted next.
class PieceCache {
 public:
  using Bytes = std::shared_ptr<const std::vector<uint8_t>>;
  explicit PieceCache(size_t n_pieces) : entries_(n_pieces) {}

  Bytes Find(uint64_t segment) {
    const std::lock_guard lock(mutex_);
    for (Entry& entry : entries_) {
      if (entry.bytes == nullptr || entry.segment != segment) continue;
      entry.used_at = ++clock_;
      return entry.bytes;
    }
    return nullptr;
  }
  void Put(uint64_t segment, Bytes bytes) {
    const std::lock_guard lock(mutex_);
    *std::ranges::min_element(entries_, {}, &Entry::used_at) = {segment, ++clock_,
                                                                std::move(bytes)};
  }

 private:
  struct Entry {
    uint64_t segment = 0, used_at = 0;
    Bytes bytes;
  };
  std::mutex mutex_;
  std::vector<Entry> entries_;
  uint64_t clock_ = 0;
};

}  // namespace

class QpackBytes::Archive {
 public:
  explicit Archive(std::shared_ptr<const RandomAccessBytes> file) : file_(std::move(file)) {
    ReadPrologueAndDirectory();
    ReadHeader();
    const uint64_t gguf_bytes = footer_.gguf_bytes;
    if (gguf_bytes < layout_.tail_begin() || layout_.n_segments(gguf_bytes) != n_segments()) {
      throw QpackError("qpack.directory", "directory does not fit the tensors of the model", name())
          .Found(fmt::format("{} segments of {} bytes of GGUF", n_segments(), gguf_bytes))
          .Expected(gguf_bytes < layout_.tail_begin()
                        ? fmt::format("at least {} bytes", layout_.tail_begin())
                        : fmt::format("{} segments", layout_.n_segments(gguf_bytes)));
    }
    cache_ = std::make_unique<PieceCache>(
        std::max<uint64_t>(2, kQpackAheadBytes / prologue_.segment_bytes));
  }

  const std::string& name() const { return file_->name(); }
  GgufHeader TakeHeader() { return std::move(header_); }
  uint64_t gguf_bytes() const { return footer_.gguf_bytes; }
  uint64_t packed_bytes() const { return file_->size_bytes(); }
  uint64_t n_segments() const { return offsets_.size() - 1; }
  QpackPiece PieceAt(uint64_t offset) const { return layout_.PieceAt(offset, gguf_bytes()); }

  void Read(uint64_t offset, MutableByteView out) {
    struct Part {
      QpackPiece piece;
      uint64_t begin;  // in the piece
      MutableByteView out;
    };
    std::vector<Part> parts;
    while (!out.empty()) {
      const QpackPiece piece = PieceAt(offset);
      const uint64_t n = std::min<uint64_t>(out.size(), piece.end() - offset);
      parts.push_back({piece, offset - piece.begin, out.first(n)});
      offset += n;
      out = out.subspan(n);
      // A request of any size is worked off in steps.
      if (parts.size() == 256 || out.empty()) {
        ForEachInParallel(parts.size(), [&](size_t i) {
          ReadPart(parts[i].piece, parts[i].begin, parts[i].out);
        });
        parts.clear();
      }
    }
  }

  std::optional<Error> Decode(const QpackPiece& piece, MutableByteView out) {
    const uint64_t begin = offsets_[piece.segment];
    auto error = decoders_.With([&](QpackDecoders::Worker& worker) {
      worker.packed.resize(offsets_[piece.segment + 1] - begin);
      file_->ReadAt(begin, worker.packed);
      return worker.decoder.Decode(worker.packed, *piece.split, piece.segment, out);
    });
    if (error) return PlacedAtSegment(*std::move(error), name(), piece, begin, names_);
    return std::nullopt;
  }

 private:
  void ReadPrologueAndDirectory() {
    const uint64_t size = file_->size_bytes();
    if (size < kQpackPrologueBytes + kQpackEndMarkBytes + kQpackFooterBytes) {
      throw QpackError("qpack.truncated", "file is too short to be QPACK", name())
          .Found(fmt::format("{} bytes", size));
    }
    prologue_ = ParseQpackPrologue(file_->ReadVector(0, kQpackPrologueBytes), name());
    footer_ =
        ParseQpackFooter(file_->ReadVector(size - kQpackFooterBytes, kQpackFooterBytes), name());
    const uint64_t room = size - kQpackPrologueBytes - kQpackEndMarkBytes - kQpackFooterBytes;
    const auto least = CheckedMul(footer_.n_segments, kQpackSegmentFrameBytes + 4);
    if (!least || *least > room) {
      throw QpackError("qpack.directory", "file cannot hold as many segments as it says", name())
          .Found(fmt::format("{} segments in {} bytes", footer_.n_segments, size));
    }
    const uint64_t directory_begin = size - kQpackFooterBytes - 4 * footer_.n_segments;
    const auto directory = file_->ReadVector(directory_begin, 4 * footer_.n_segments);
    CheckQpackHash(footer_, directory, name());
    offsets_.reserve(footer_.n_segments + 1);
    uint64_t offset = kQpackPrologueBytes;
    for (uint64_t i = 0; i < footer_.n_segments; ++i) {
      const uint32_t bytes = LoadLE<uint32_t>(&directory[4 * i]);
      if (bytes < kQpackSegmentFrameBytes || bytes > MaxSegmentBytes()) {
        throw QpackError("qpack.directory", "length of a segment is out of range", name())
            .Where(fmt::format("segment {}", i))
            .Found(std::to_string(bytes));
      }
      offsets_.push_back(offset);
      offset += bytes;
    }
    offsets_.push_back(offset);
    const uint64_t mark = directory_begin - kQpackEndMarkBytes;
    if (offset != mark || LoadLE<uint64_t>(file_->ReadVector(mark, 8).data()) != 0) {
      throw QpackError("qpack.directory", "directory does not follow the last segment", name())
          .Offset(offset)
          .Found(fmt::format("the directory's end mark at {}", mark));
    }
  }

  uint64_t MaxSegmentBytes() const {
    return kQpackSegmentFrameBytes +
           MaxQpackPayloadBytes(prologue_.segment_bytes, PlaneSplit::kMaxPlanes);
  }

  // The header's segments in order, as a stream that ends with them.
  class HeaderStream final : public ByteStream {
   public:
    explicit HeaderStream(Archive& archive) : archive_(archive) {}
    const std::string& name() const override { return archive_.name(); }
    std::optional<uint64_t> size_bytes() const override { return std::nullopt; }
    size_t Read(MutableByteView out) override {
      size_t done = 0;
      while (done < out.size()) {
        if (at_ == piece_.size() && !NextPiece()) break;
        const size_t n = std::min(out.size() - done, piece_.size() - at_);
        std::memcpy(out.data() + done, piece_.data() + at_, n);
        at_ += n;
        done += n;
      }
      position_ += done;
      return done;
    }

   private:
    bool NextPiece() {
      const QpackPrologue& prologue = archive_.prologue_;
      const uint64_t begin = segment_ * prologue.segment_bytes;
      if (begin >= prologue.header_bytes) return false;
      piece_.resize(std::min<uint64_t>(prologue.segment_bytes, prologue.header_bytes - begin));
      const QpackPiece piece{segment_, begin, static_cast<uint32_t>(piece_.size()),
                             &PlaneSplit::OfBytes(), std::nullopt};
      if (segment_ == archive_.n_segments()) {
        throw QpackError("qpack.directory", "fewer segments than the GGUF header takes",
                         archive_.name());
      }
      const uint64_t packed = archive_.offsets_[segment_ + 1] - archive_.offsets_[segment_];
      if (!budget_.Allows(piece_.size(), packed)) {
        throw QpackError("qpack.header-bomb", "GGUF header is too long for its packed bytes",
                         archive_.name())
            .Found(fmt::format("{} bytes", prologue.header_bytes));
      }
      budget_.Add(piece_.size(), packed);
      if (auto error = archive_.Decode(piece, piece_)) throw *std::move(error);
      ++segment_;
      at_ = 0;
      return true;
    }

    Archive& archive_;
    QpackHeaderBudget budget_;
    std::vector<uint8_t> piece_;
    size_t at_ = 0;
    uint64_t segment_ = 0;
  };

  void ReadHeader() {
    HeaderStream stream(*this);
    BufferedStream buffered(stream);
    header_ = ReadGgufHeader(buffered);
    if (header_.header_bytes != prologue_.header_bytes) {
      throw QpackError("qpack.prologue", "GGUF header has another length than is said", name())
          .Found(std::to_string(prologue_.header_bytes))
          .Expected(std::to_string(header_.header_bytes));
    }
    layout_ = QpackLayout(header_, prologue_.segment_bytes);
    names_ = TensorNames(header_);
  }

  void ReadPart(const QpackPiece& piece, uint64_t begin, MutableByteView out) {
    if (out.size() == piece.bytes) {
      if (auto error = Decode(piece, out)) throw *std::move(error);
      return;
    }
    PieceCache::Bytes bytes = cache_->Find(piece.segment);
    if (bytes == nullptr) {
      auto fresh = std::make_shared<std::vector<uint8_t>>(piece.bytes);
      if (auto error = Decode(piece, *fresh)) throw *std::move(error);
      bytes = std::move(fresh);
      cache_->Put(piece.segment, bytes);
    }
    std::memcpy(out.data(), bytes->data() + begin, out.size());
  }

  std::shared_ptr<const RandomAccessBytes> file_;
  QpackPrologue prologue_;
  QpackFooter footer_;
  std::vector<uint64_t> offsets_;  // of each segment, and of what follows the last
  GgufHeader header_;
  QpackLayout layout_;
  std::vector<std::string> names_;
  QpackDecoders decoders_;
  std::unique_ptr<PieceCache> cache_;
};

QpackBytes::QpackBytes(std::shared_ptr<const RandomAccessBytes> file)
    : archive_(std::make_unique<Archive>(std::move(file))) {}
QpackBytes::~QpackBytes() = default;

uint64_t QpackBytes::size_bytes() const { return archive_->gguf_bytes(); }
const std::string& QpackBytes::name() const { return archive_->name(); }
GgufHeader QpackBytes::TakeHeader() { return archive_->TakeHeader(); }
uint64_t QpackBytes::packed_bytes() const { return archive_->packed_bytes(); }
uint64_t QpackBytes::n_segments() const { return archive_->n_segments(); }

void QpackBytes::ReadAt(uint64_t offset, MutableByteView out) const {
  if (!FitsWithin(offset, out.size(), size_bytes())) {
    throw DataError("input.truncated", "file is shorter than it should be")
        .File(Escaped(name(), 4096))
        .Offset(offset)
        .Found(fmt::format("{} bytes", size_bytes()));
  }
  archive_->Read(offset, out);
}

uint64_t QpackBytes::SegmentEnd(uint64_t offset) const { return archive_->PieceAt(offset).end(); }

std::optional<Error> QpackBytes::CheckSegmentAt(uint64_t offset) const {
  const QpackPiece piece = archive_->PieceAt(offset);
  std::vector<uint8_t> bytes(piece.bytes);
  return archive_->Decode(piece, bytes);
}

std::unique_ptr<TensorStore> OpenQpack(std::shared_ptr<const RandomAccessBytes> file) {
  auto bytes = std::make_shared<QpackBytes>(std::move(file));
  GgufHeader header = bytes->TakeHeader();
  if (const auto split = SplitOf(header.metadata, bytes->name())) {
    throw UnsupportedError("qpack.split", "file is one packed part of a split model")
        .File(Escaped(bytes->name(), 4096))
        .Found(fmt::format("part {} of {}", split->index + 1, split->n_parts))
        .Hint("unpack all parts with quern unpack, into one folder");
  }
  return std::make_unique<GgufFile>(std::move(bytes), std::move(header));
}

std::unique_ptr<TensorSource> ReadQpackStream(std::unique_ptr<ByteStream> qpack) {
  return ReadGgufStream(UnpackStream(std::move(qpack)));
}

std::vector<Finding> CheckQpack(std::shared_ptr<const RandomAccessBytes> file, Progress* progress) {
  const auto bytes = std::make_shared<QpackBytes>(std::move(file));
  std::vector<Finding> findings;
  if (progress != nullptr) progress->Begin("unpacking", bytes->size_bytes(), "bytes");
  // Steps of a few segments, each looked at by one thread.
  std::vector<uint64_t> begins;
  std::vector<std::optional<Error>> errors;
  for (uint64_t begin = 0; begin < bytes->size_bytes();) {
    begins.clear();
    const uint64_t step_begin = begin;
    while (begin < bytes->size_bytes() && begins.size() < 16) {
      begins.push_back(begin);
      begin = bytes->SegmentEnd(begin);
    }
    errors.assign(begins.size(), std::nullopt);
    ForEachInParallel(begins.size(),
                      [&](size_t i) { errors[i] = bytes->CheckSegmentAt(begins[i]); });
    for (const auto& error : errors) {
      if (error) findings.push_back(FindingFrom(*error));
    }
    if (progress != nullptr) progress->Advance(begin - step_begin);
  }
  if (progress != nullptr) progress->End();
  if (!findings.empty()) return findings;
  return CheckGgufIntegrity(GgufFile(bytes, bytes->TakeHeader()), progress);
}

}  // namespace quern
