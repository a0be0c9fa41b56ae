#include "formats/gguf_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "formats/buffered_stream.h"
#include "formats/core/check.h"
#include "formats/core/hash.h"
#include "formats/gguf_metadata.h"
#include "formats/gguf_split.h"
#include "formats/integrity_trailer.h"
#include "formats/scratch.h"

namespace quern {
namespace {

class GgufStream final : public TensorSource {
 public:
  explicit GgufStream(std::unique_ptr<ByteStream> stream)
      : inner_(std::move(stream)),
        stream_(*inner_),
        header_(ReadGgufHeader(stream_)),
        verifier_(header_, manifest_.tensors, inner_->name()) {
    if (const auto split = SplitOf(header_.metadata, name())) {
      throw UnsupportedError("gguf.split", "stream is one part of a split model")
          .File(Escaped(name(), 4096))
          .Found(fmt::format("part {} of {}", split->index + 1, split->n_parts))
          .Hint("give the file's path: the other parts are found beside it");
    }
    manifest_ = ManifestFromGguf(std::move(header_.metadata), std::move(header_.tensors), name());
  }

  const Manifest& manifest() const override { return manifest_; }
  const std::string& name() const override { return inner_->name(); }
  uint64_t reading_bytes() const override { return inner_->reading_bytes(); }

  std::optional<TensorBand> Next(MutableByteView out) override {
    const auto& tensors = manifest_.tensors;
    while (tensor_ < tensors.size() &&
           (row_ == tensors[tensor_].rows() || tensors[tensor_].cols() == 0)) {
      ++tensor_;
      row_ = 0;
    }
    if (tensor_ == tensors.size()) {
      FinishOnce();
      return std::nullopt;
    }
    const TensorInfo& info = tensors[tensor_];
    if (row_ == 0) SkipTo(header_.data_offset + header_.offsets[tensor_]);
    const uint64_t row_bytes = info.row_bytes();
    QUERN_CHECK(out.size() >= row_bytes);
    const uint64_t count = std::min(info.rows() - row_, out.size() / row_bytes);
    const MutableByteView bytes = out.first(count * row_bytes);
    const uint64_t begin = stream_.position();
    if (stream_.Read(bytes) != bytes.size()) throw EndsEarly(begin);
    const TensorBand band{tensor_, row_, count, bytes};
    row_ += count;
    verifier_.AddTensor(band.tensor, bytes);
    return band;
  }

 private:
  Error EndsEarly(uint64_t offset) const {
    return DataError("gguf.tensor-past-eof", "stream ends inside the tensor's data")
        .File(Escaped(name(), 4096))
        .Tensor(manifest_.tensors[tensor_].name)
        .Offset(offset)
        .Found(fmt::format("{} bytes in all", stream_.position()))
        .Expected(fmt::format("at least {}", header_.data_offset + header_.offsets[tensor_] +
                                                 manifest_.tensors[tensor_].size_bytes()))
        .Hint("whatever writes into the pipe stopped before its end");
  }

  // Reads over the padding in front of a tensor.
  void SkipTo(uint64_t position) {
    uint8_t padding[4096];
    while (stream_.position() < position) {
      const uint64_t n = std::min<uint64_t>(position - stream_.position(), sizeof padding);
      const uint64_t begin = stream_.position();
      if (stream_.Read({padding, n}) != n) throw EndsEarly(begin);
      verifier_.AddOther({padding, n});
    }
  }

  // Reads what is behind the data, and compares everything with the trailer.
  void FinishOnce() {
    if (is_finished_) return;
    is_finished_ = true;
    // The padding of the last tensor may lack.
    std::vector<uint8_t> rest(size_t{64} << 10);
    while (const size_t n = stream_.Read(rest)) verifier_.AddOther(ByteView(rest).first(n));
    const TrailerVerdict verdict = verifier_.Finish();
    if (!verdict.errors.empty()) throw verdict.errors.front();
  }

  std::unique_ptr<ByteStream> inner_;
  BufferedStream stream_;
  GgufHeader header_;
  Manifest manifest_;
  TrailerVerifier verifier_;
  size_t tensor_ = 0;
  uint64_t row_ = 0;
  bool is_finished_ = false;
};

}  // namespace

GgufHeader ReadGgufHeader(const RandomAccessBytes& bytes) {
  RandomAccessStream stream(bytes);
  BufferedStream buffered(stream);
  return ReadGgufHeader(buffered);
}

GgufFile::GgufFile(std::shared_ptr<const RandomAccessBytes> bytes)
    : GgufFile(bytes, ReadGgufHeader(*bytes)) {}

GgufFile::GgufFile(std::shared_ptr<const RandomAccessBytes> bytes, GgufHeader header)
    : bytes_(std::move(bytes)), header_(std::move(header)) {
  manifest_ = ManifestFromGguf(std::move(header_.metadata), std::move(header_.tensors), name());
}

void GgufFile::ReadRows(size_t tensor, uint64_t begin, uint64_t count, MutableByteView out) const {
  QUERN_CHECK(tensor < manifest_.tensors.size());
  const TensorInfo& info = manifest_.tensors[tensor];
  QUERN_CHECK(begin <= info.rows() && count <= info.rows() - begin);
  QUERN_CHECK(out.size() == count * info.row_bytes());
  bytes_->ReadAt(tensor_offset(tensor) + begin * info.row_bytes(), out);
}

uint64_t GgufFile::HashTensor(size_t tensor) const {
  // By bytes: a row may be as long as the tensor. What is unpacked on the way, in parallel, is asked
  // for in larger steps.
  const uint64_t step = uint64_t{bytes_->reading_bytes() != 0 ? 8U : 1U} << 20;
  const uint64_t end = tensor_offset(tensor) + manifest_.tensors[tensor].size_bytes();
  Xxh3Stream hash;
  Scratch buffer;
  for (uint64_t at = tensor_offset(tensor); at < end;) {
    const MutableByteView bytes = buffer.Room(std::min(end - at, step));
    bytes_->ReadAt(at, bytes);
    hash.Update(bytes);
    at += bytes.size();
  }
  return hash.Digest();
}

StoredPlace GgufFile::PlaceOf(size_t tensor, uint64_t row, uint64_t col) const {
  return {name(), tensor_offset(tensor) + manifest_.tensors[tensor].offset_bytes(row, col)};
}

uint64_t GgufFile::trailing_bytes() const {
  return bytes_->size_bytes() - std::min(bytes_->size_bytes(), header_.data_end);
}

std::unique_ptr<TensorStore> OpenGguf(std::shared_ptr<const RandomAccessBytes> bytes) {
  GgufHeader header = ReadGgufHeader(*bytes);
  if (const auto split = SplitOf(header.metadata, bytes->name())) {
    return OpenSplitGguf(bytes->name(), *split);
  }
  return std::make_unique<GgufFile>(std::move(bytes), std::move(header));
}

std::unique_ptr<TensorSource> ReadGgufStream(std::unique_ptr<ByteStream> stream) {
  return std::make_unique<GgufStream>(std::move(stream));
}

}  // namespace quern
