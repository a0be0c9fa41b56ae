#include "formats/qpack_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "formats/core/check.h"
#include "formats/core/checked.h"
#include "formats/gguf_copy.h"
#include "formats/gguf_reader.h"
#include "formats/integrity_trailer.h"
#include "formats/qpack_archive.h"
#include "formats/qpack_format.h"
#include "formats/qpack_parts.h"

namespace quern {

std::shared_ptr<QpackWorkspace> MakeQpackWorkspace() { return std::make_shared<QpackWorkspace>(); }

class QpackBytes::Archive final : private QpackHeaderSource {
 public:
  Archive(std::shared_ptr<const RandomAccessBytes> file, std::shared_ptr<QpackWorkspace> workspace)
      : file_(std::move(file)),
        workspace_(std::move(workspace)),
        id_(workspace_->n_archives++),
        layout_(kQpackSegmentBytes) {
    ReadPrologueAndDirectory();
    layout_ = ReadQpackLayout(prologue_, *this, name());
    PlacePieces();
  }

  const std::string& name() const { return file_->name(); }
  uint64_t gguf_bytes() const { return footer_.gguf_bytes; }
  uint64_t packed_bytes() const { return file_->size_bytes(); }
  uint64_t n_segments() const { return packed_offsets_.size() - 1; }

  void Read(uint64_t offset, MutableByteView out) {
    struct Part {
      QpackPiece piece;
      uint64_t begin;  // in the piece
      MutableByteView out;
    };
    std::vector<Part> parts;
    for (uint64_t i = PieceOf(offset); !out.empty(); ++i) {
      const QpackPiece piece = PieceAt(i);
      const uint64_t n = std::min<uint64_t>(out.size(), piece.end() - offset);
      parts.push_back({piece, offset - piece.begin, out.first(n)});
      offset += n;
      out = out.subspan(n);
      // A request of any size is worked off in steps.
      if (parts.size() == 256 || out.empty()) {
        ForEachInParallel(parts.size(), QpackDecoders::Limit(prologue_.segment_bytes),
                          [&](size_t k, size_t) {
                            ReadPart(parts[k].piece, parts[k].begin, parts[k].out);
                          });
        parts.clear();
      }
    }
  }

  std::vector<Finding> CheckSegments(Progress* progress) {
    std::vector<Finding> findings;
    if (progress != nullptr) progress->Begin("unpacking", gguf_bytes(), "bytes");
    // Steps of a few segments, so that findings come in order and memory is bounded.
    const size_t n_workers = QpackDecoders::Limit(prologue_.segment_bytes);
    std::vector<Scratch> buffers(n_workers);
    std::vector<std::optional<Error>> errors;
    for (uint64_t begin = 0; begin < n_segments(); begin += errors.size()) {
      errors.assign(std::min<uint64_t>(n_segments() - begin, 16 * n_workers), std::nullopt);
      ForEachInParallel(errors.size(), n_workers, [&](size_t i, size_t worker) {
        const QpackPiece piece = PieceAt(begin + i);
        errors[i] = Decode(piece, layout_.ShapeOf(piece), buffers[worker].Room(piece.bytes));
        if (progress != nullptr) progress->Advance(piece.bytes);
      });
      for (const auto& error : errors) {
        if (error) findings.push_back(FindingFrom(*error));
      }
    }
    if (progress != nullptr) progress->End();
    return findings;
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
    packed_offsets_.reserve(footer_.n_segments + 1);
    uint64_t offset = kQpackPrologueBytes;
    for (uint64_t i = 0; i < footer_.n_segments; ++i) {
      const uint32_t bytes = LoadLE<uint32_t>(&directory[4 * i]);
      if (bytes < kQpackSegmentFrameBytes ||
          bytes > kQpackSegmentFrameBytes + prologue_.segment_bytes) {
        throw QpackError("qpack.directory", "length of a segment is out of range", name())
            .Where(fmt::format("segment {}", i))
            .Found(std::to_string(bytes));
      }
      packed_offsets_.push_back(offset);
      offset += bytes;
    }
    packed_offsets_.push_back(offset);
    const uint64_t mark = directory_begin - kQpackEndMarkBytes;
    if (offset != mark || LoadLE<uint64_t>(file_->ReadVector(mark, 8).data()) != 0) {
      throw QpackError("qpack.directory", "directory does not follow the last segment", name())
          .Offset(offset)
          .Found(fmt::format("the directory's end mark at {}", mark));
    }
  }

  // Finds where each piece lies, and that there are as many as segments.
  void PlacePieces() {
    const uint64_t end = gguf_bytes();
    if (end < layout_.least_bytes()) {
      throw QpackError("qpack.directory", "directory does not fit the tensors of the model", name())
          .Found(fmt::format("a GGUF file of {} bytes", end))
          .Expected(fmt::format("at least {} bytes", layout_.least_bytes()));
    }
    begins_.reserve(n_segments());
    for (uint64_t begin = 0; begin < end && begins_.size() <= n_segments();) {
      begins_.push_back(begin);
      begin = layout_.PieceAt(begins_.size() - 1, begin, end).end();
    }
    if (begins_.size() != n_segments()) {
      throw QpackError("qpack.directory", "GGUF file does not have as many pieces as segments",
                       name())
          .Found(fmt::format("{} segments of {} bytes of GGUF", n_segments(), end));
    }
  }

  uint64_t PieceOf(uint64_t offset) const {
    return static_cast<uint64_t>(std::ranges::upper_bound(begins_, offset) - begins_.begin()) - 1;
  }
  QpackPiece PieceAt(uint64_t i) const { return layout_.PieceAt(i, begins_[i], gguf_bytes()); }

  // Each header segment as it is read: its place was not looked up yet.
  uint64_t PackedBytes(const QpackPiece& piece) override {
    if (piece.segment >= n_segments()) {
      throw QpackError("qpack.directory", "fewer segments than the GGUF header takes", name());
    }
    return packed_offsets_[piece.segment + 1] - packed_offsets_[piece.segment];
  }
  void Unpack(const QpackPiece& piece, MutableByteView out) override {
    const QpackLayout bytes_only(prologue_.segment_bytes);
    if (auto error = Decode(piece, bytes_only.ShapeOf(piece), out)) throw *std::move(error);
  }

  std::optional<Error> Decode(const QpackPiece& piece, const QpackShape& shape,
                              MutableByteView out) {
    const uint64_t begin = packed_offsets_[piece.segment];
    auto error = workspace_->decoders.With(
        prologue_.segment_bytes, [&](QpackDecoders::Worker& worker) {
          const MutableByteView packed =
              worker.packed.Room(packed_offsets_[piece.segment + 1] - begin);
          file_->ReadAt(begin, packed);
          return worker.decoder.Decode(packed, shape, piece.segment, out);
        });
    if (error) return PlacedAtSegment(*std::move(error), name(), layout_, piece, begin);
    return std::nullopt;
  }

  void ReadPart(const QpackPiece& piece, uint64_t begin, MutableByteView out) {
    const auto Fill = [&](MutableByteView bytes) {
      if (auto error = Decode(piece, layout_.ShapeOf(piece), bytes)) throw *std::move(error);
    };
    if (out.size() == piece.bytes) return Fill(out);
    workspace_->cache.With(id_, piece.segment, piece.bytes, Fill, [&](ByteView bytes) {
      std::ranges::copy(bytes.subspan(begin, out.size()), out.begin());
    });
  }

  std::shared_ptr<const RandomAccessBytes> file_;
  std::shared_ptr<QpackWorkspace> workspace_;
  const uint64_t id_;
  QpackPrologue prologue_;
  QpackFooter footer_;
  std::vector<uint64_t> packed_offsets_;  // of each segment, and of what follows the last
  QpackLayout layout_;
  std::vector<uint64_t> begins_;  // of each piece
};

QpackBytes::QpackBytes(std::shared_ptr<const RandomAccessBytes> file,
                       std::shared_ptr<QpackWorkspace> workspace)
    : archive_(std::make_unique<Archive>(std::move(file), std::move(workspace))) {}
QpackBytes::~QpackBytes() = default;

uint64_t QpackBytes::size_bytes() const { return archive_->gguf_bytes(); }
const std::string& QpackBytes::name() const { return archive_->name(); }
uint64_t QpackBytes::reading_bytes() const { return kQpackReadingBytes; }
uint64_t QpackBytes::packed_bytes() const { return archive_->packed_bytes(); }
uint64_t QpackBytes::n_segments() const { return archive_->n_segments(); }

void QpackBytes::ReadAt(uint64_t offset, MutableByteView out) const {
  if (!FitsWithin(offset, out.size(), size_bytes())) {
    throw DataError("input.truncated", "file is shorter than it should be")
        .File(Escaped(name(), 4096))
        .Offset(offset)
        .Found(fmt::format("{} bytes", size_bytes()));
  }
  if (!out.empty()) archive_->Read(offset, out);
}

std::vector<Finding> QpackBytes::CheckSegments(Progress* progress) const {
  return archive_->CheckSegments(progress);
}

bool IsQpack(const RandomAccessBytes& bytes) {
  const uint64_t n = std::min<uint64_t>(bytes.size_bytes(), kQpackMagic.size());
  return AsText(bytes.ReadVector(0, n)) == kQpackMagic;
}

std::shared_ptr<const RandomAccessBytes> GgufBytesIn(
    std::shared_ptr<const RandomAccessBytes> file, std::shared_ptr<QpackWorkspace> workspace) {
  if (!IsQpack(*file)) return file;
  return std::make_shared<const QpackBytes>(std::move(file), std::move(workspace));
}

std::unique_ptr<TensorStore> OpenQpack(std::shared_ptr<const RandomAccessBytes> file) {
  return OpenGguf(std::make_shared<const QpackBytes>(std::move(file)));
}

std::unique_ptr<TensorSource> ReadQpackStream(std::unique_ptr<ByteStream> qpack) {
  return ReadGgufStream(UnpackStream(std::move(qpack)));
}

uint64_t UnpackQpack(std::unique_ptr<ByteStream> qpack, std::unique_ptr<Output> output,
                     uint64_t max_header_bytes, Progress* progress) {
  const auto gguf = UnpackStream(std::move(qpack));
  const uint64_t n_bytes = CopyGguf(*gguf, *output, max_header_bytes, progress);
  output->Commit();
  return n_bytes;
}

namespace {

// Where the directory is of no use, segments are still read in their order: what breaks is found
// there, with the tensor that it belongs to.
std::vector<Finding> CheckInOrder(const std::shared_ptr<const RandomAccessBytes>& file,
                                  const Error& about_directory) {
  std::vector<Finding> findings = {FindingFrom(about_directory)};
  try {
    const auto gguf = UnpackStream(std::make_unique<RandomAccessStream>(*file));
    Scratch buffer;
    const MutableByteView bytes = buffer.Room(kQpackAheadBytes);
    while (gguf->Read(bytes) != 0) {
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kData) throw;
    // The directory itself was named before.
    if (error.id() != "qpack.directory") findings.push_back(FindingFrom(error));
  }
  return findings;
}

// Reads what is behind the tensors, so that its segments are compared with their hashes.
void ReadToEnd(const QpackBytes& bytes, uint64_t offset) {
  Scratch buffer;
  while (offset < bytes.size_bytes()) {
    const uint64_t n = std::min(bytes.size_bytes() - offset, kQpackAheadBytes);
    bytes.ReadAt(offset, buffer.Room(n));
    offset += n;
  }
}

}  // namespace

std::vector<Finding> CheckQpack(std::shared_ptr<const RandomAccessBytes> file, bool hash_tensors,
                                Progress* progress) {
  std::shared_ptr<const QpackBytes> bytes;
  try {
    bytes = std::make_shared<const QpackBytes>(file);
  } catch (const Error& error) {
    if (error.id() != "qpack.directory" && error.id() != "qpack.truncated") throw;
    return CheckInOrder(file, error);
  }
  if (hash_tensors) {
    auto findings = bytes->CheckSegments(progress);
    if (!findings.empty()) return findings;
  }
  std::vector<Finding> findings;
  try {
    const GgufFile gguf(bytes);
    findings = CheckGgufIntegrity(gguf, hash_tensors, progress);
    if (!hash_tensors) ReadToEnd(*bytes, gguf.layout().data_end);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kData && error.code() != ErrorCode::kUnsupported) throw;
    // Nobody can read the tensors of a model that cannot be opened, and where one segment is
    // damaged, there are more, perhaps.
    if (!hash_tensors) findings = bytes->CheckSegments(progress);
    if (error.id() != "qpack.segment") findings.push_back(FindingFrom(error));
  }
  return findings;
}

}  // namespace quern
