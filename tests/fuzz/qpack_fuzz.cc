// QPACK, from bytes to the GGUF file inside. Beyond "no crash": a store and a stream that both take
// a file give the same bytes, what comes out is packed and unpacked again without change, and what
// is allocated stays bounded, whatever the file says. The mutator repairs hashes, directory and
// footer, so that damage gets past them.
#include <memory>

#include "formats/core/hash.h"
#include "formats/gguf_outline.h"
#include "formats/qpack_format.h"
#include "formats/qpack_layout.h"
#include "formats/qpack_reader.h"
#include "formats/qpack_segment.h"
#include "formats/qpack_writer.h"
#include "tests/fuzz/allocations.h"
#include "tests/fuzz/fuzz_support.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

using namespace quern;
using fuzz::Bytes;
using fuzz::g_largest_allocation;
using fuzz::Require;

// What a harness unpacks at most: more only takes time.
constexpr uint64_t kMaxGgufBytes = uint64_t{8} << 20;

template <typename Action>
auto OrRefused(const Action& action) -> std::optional<decltype(action())> {
  try {
    return action();
  } catch (const Error& error) {
    Require(fuzz::IsRefusal(error));
    return std::nullopt;
  }
}

// Both give the GGUF file inside, as far as kMaxGgufBytes, or nothing where it is refused.
std::optional<Bytes> ThroughStore(ByteView qpack) {
  return OrRefused([&] {
    const QpackBytes bytes(std::make_shared<MemoryBytes>(qpack, "file"));
    return bytes.ReadVector(0, std::min(bytes.size_bytes(), kMaxGgufBytes));
  });
}
std::optional<Bytes> ThroughStream(ByteView qpack, size_t step) {
  return OrRefused([&] {
    const auto stream = UnpackStream(std::make_unique<fuzz::Pipe>(qpack));
    Bytes out, buffer(step);
    while (out.size() < kMaxGgufBytes) {
      const size_t n = stream->Read(
          MutableByteView(buffer).first(std::min<size_t>(step, kMaxGgufBytes - out.size())));
      if (n == 0) break;
      out.insert(out.end(), buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(n));
    }
    return out;
  });
}

Bytes Repacked(ByteView gguf, uint32_t segment_bytes) {
  Bytes out;
  const auto output = MakeQpackOutput(std::make_unique<fuzz::IntoVector>(out),
                                      {.level = 1, .segment_bytes = segment_bytes});
  output->Write(gguf);
  output->Commit();
  return out;
}

// Makes all hashes, the directory and the footer those of the segments as they are.
class Repairer {
 public:
  explicit Repairer(ByteView qpack) : out_(qpack.begin(), qpack.end()) {}

  Bytes Run() {
    if (out_.size() < kQpackPrologueBytes) return out_;
    StoreLE(&out_[24], Xxh3(ByteView(out_).first(24)));
    segment_bytes_ = std::clamp(LoadLE<uint32_t>(&out_[12]), kQpackMinSegmentBytes,
                                kQpackMaxSegmentBytes);
    header_bytes_ = LoadLE<uint64_t>(&out_[16]);
    layout_ = QpackLayout(segment_bytes_);
    size_t at = kQpackPrologueBytes;
    while (const size_t n_bytes = RepairSegment(at)) at += n_bytes;
    out_.resize(at + kQpackEndMarkBytes);
    std::fill(out_.end() - kQpackEndMarkBytes, out_.end(), uint8_t{0});
    const size_t begin = out_.size();
    for (const uint32_t bytes : directory_) Put(bytes);
    Put(gguf_bytes_);
    Put(uint64_t{directory_.size()});
    Put(Xxh3(ByteView(out_).subspan(begin)));
    out_.insert(out_.end(), kQpackEndMagic.begin(), kQpackEndMagic.end());
    return std::move(out_);
  }

 private:
  // Returns the bytes of the segment at `at`, or 0 where there is none.
  size_t RepairSegment(size_t at) {
    if (out_.size() - at < kQpackSegmentFrameBytes) return 0;
    const auto head = QpackSegmentHead::Load(&out_[at]);
    if (head.raw_bytes == 0 || head.packed_bytes > out_.size() - at - kQpackSegmentFrameBytes) {
      return 0;
    }
    const size_t n_bytes = kQpackSegmentFrameBytes + head.packed_bytes;
    const MutableByteView segment = MutableByteView(out_).subspan(at, n_bytes);
    Seal(segment);
    QpackPiece piece = layout_.PieceAt(directory_.size(), gguf_bytes_, UINT64_MAX);
    const uint64_t end = gguf_bytes_ + head.raw_bytes;
    if (gguf_bytes_ < header_bytes_) {
      piece.bytes =
          static_cast<uint32_t>(std::min<uint64_t>(piece.bytes, header_bytes_ - gguf_bytes_));
    } else if (head.raw_bytes < piece.bytes && end >= layout_.least_bytes()) {
      piece = layout_.PieceAt(piece.segment, gguf_bytes_, end);
    }
    Bytes raw(piece.bytes);
    if (head.raw_bytes == piece.bytes) {
      // What the decoder makes of it, right or wrong, is what was packed.
      decoder_.Decode(segment, layout_.ShapeOf(piece), piece.segment, raw);
      StoreLE(&segment[8], Xxh3(raw));
      Seal(segment);
    }
    directory_.push_back(static_cast<uint32_t>(n_bytes));
    gguf_bytes_ += head.raw_bytes;
    if (gguf_bytes_ <= header_bytes_) header_.insert(header_.end(), raw.begin(), raw.end());
    if (gguf_bytes_ == header_bytes_) ReadOutline();
    return n_bytes;
  }

  void ReadOutline() {
    fuzz::Pipe pipe(header_);
    if (auto outline = OrRefused([&] { return ReadGgufOutline(pipe); }); outline && *outline) {
      layout_ = QpackLayout(**std::move(outline), segment_bytes_);
    }
  }

  void Seal(MutableByteView segment) const {
    Bytes hashed(segment.begin(), segment.end());
    StoreLE(&hashed[hashed.size() - 8], uint64_t{directory_.size()});
    StoreLE(&segment[segment.size() - 8], Xxh3(hashed));
  }
  template <typename T>
  void Put(T value) {
    out_.resize(out_.size() + sizeof value);
    StoreLE(&out_[out_.size() - sizeof value], value);
  }

  Bytes out_, header_;
  uint32_t segment_bytes_ = 0;
  uint64_t header_bytes_ = 0, gguf_bytes_ = 0;
  QpackLayout layout_{kQpackMinSegmentBytes};
  std::vector<uint32_t> directory_;
  QpackSegmentDecoder decoder_;
};

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  size = LLVMFuzzerMutate(data, size, max_size);
  if (seed % 8 == 0) return size;
  const Bytes repaired = Repairer({data, size}).Run();
  if (repaired.size() > max_size) return size;
  std::copy(repaired.begin(), repaired.end(), data);
  return repaired.size();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteView qpack(data, size);
  g_largest_allocation = 0;
  const auto stored = ThroughStore(qpack);
  const auto streamed = ThroughStream(qpack, 1 << 16);
  // A header takes 8 MiB and its packed bytes, what is unpacked ahead 8 MiB.
  Require(g_largest_allocation <= (size_t{20} << 20) + 16 * size);
  Require(ThroughStream(qpack, 17).has_value() == streamed.has_value());
  if (stored && streamed) Require(*stored == *streamed);
  OrRefused([&] { return CheckQpack(std::make_shared<MemoryBytes>(qpack, "file")).size(); });
  OrRefused([&] { return OpenQpack(std::make_shared<MemoryBytes>(qpack, "file"))->name(); });
  if (!stored || stored->size() == kMaxGgufBytes) return 0;
  // What ends early is not packed by anybody, but may be read.
  fuzz::Pipe pipe(*stored);
  const auto outline = OrRefused([&] { return ReadGgufOutline(pipe); });
  if (!outline || (*outline && (*outline)->data_end() > stored->size())) return 0;
  for (const uint32_t segment_bytes : {kQpackMinSegmentBytes, kQpackSegmentBytes}) {
    const Bytes again = Repacked(*stored, segment_bytes);
    Require(ThroughStore(again) == stored);
    Require(ThroughStream(again, 4096) == stored);
    Require(CheckQpack(std::make_shared<MemoryBytes>(again, "file")).empty() ||
            !CheckQpack(std::make_shared<MemoryBytes>(qpack, "file")).empty());
  }
  return 0;
}
