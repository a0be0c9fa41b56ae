#include "formats/gguf_copy.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "formats/buffered_stream.h"
#include "formats/core/error.h"
#include "formats/gguf_outline.h"
#include "formats/gguf_reader.h"
#include "formats/integrity_trailer.h"
#include "formats/scratch.h"
#include "formats/view_stream.h"

namespace quern {
namespace {

// Large enough that whole segments of a QPACK are unpacked in place.
constexpr size_t kStepBytes = size_t{8} << 20;

// A stream that keeps what was read, so that a header can be parsed and passed on.
class RecordingStream final : public ByteStream {
 public:
  RecordingStream(ByteStream& inner, uint64_t max_bytes) : inner_(inner), max_bytes_(max_bytes) {}
  const std::string& name() const override { return inner_.name(); }
  std::optional<uint64_t> size_bytes() const override { return inner_.size_bytes(); }
  size_t Read(MutableByteView out) override {
    const size_t n = inner_.Read(out);
    if (read_.size() + n > max_bytes_) {
      throw Error(ErrorCode::kMemory, "memory.budget", "GGUF header does not fit")
          .File(Escaped(name(), 4096))
          .Found(fmt::format("more than {} bytes", max_bytes_))
          .Hint("give a larger --memory: its fourth part is for the header");
    }
    read_.insert(read_.end(), out.begin(), out.begin() + static_cast<ptrdiff_t>(n));
    position_ += n;
    return n;
  }
  const std::vector<uint8_t>& read() const { return read_; }

 private:
  ByteStream& inner_;
  uint64_t max_bytes_;
  std::vector<uint8_t> read_;
};

class Copy {
 public:
  Copy(ByteStream& gguf, Output& output, Progress* progress)
      : gguf_(gguf), output_(output), progress_(progress) {}

  uint64_t Run(uint64_t max_header_bytes) {
    ReadHeader(max_header_bytes);
    for (const GgufExtent& extent : outline_.extents) {
      CopyBytes(extent.begin - at_, &extent, false);
      CopyBytes(extent.bytes, &extent, true);
    }
    CopyBytes(UINT64_MAX, nullptr, false);
    if (!verifier_) return at_;
    const TrailerVerdict verdict = verifier_->Finish();
    if (!verdict.errors.empty()) throw verdict.errors.front();
    return at_;
  }

 private:
  void ReadHeader(uint64_t max_header_bytes) {
    RecordingStream recording(gguf_, max_header_bytes);
    auto outline = ReadGgufOutline(recording);
    const std::vector<uint8_t>& bytes = recording.read();
    if (!AsText(bytes).starts_with("GGUF")) {
      throw DataError("input.unknown-format", "not a GGUF file")
          .File(Escaped(gguf_.name(), 4096))
          .Found("first bytes " + Quoted(AsText(bytes)))
          .Expected("'GGUF'");
    }
    if (outline) {
      outline_ = *std::move(outline);
      PrepareToVerify(bytes);
    }
    Pass(bytes);
  }

  // Where quern reads the header, it knows whether a trailer must follow. In a header that it does
  // not read, as in one without the key, it looks for none.
  void PrepareToVerify(ByteView header) {
    try {
      ViewStream stream(header, gguf_.name());
      header_ = ReadGgufHeader(stream);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kData && error.code() != ErrorCode::kUnsupported) throw;
      return;
    }
    header_.metadata.clear();
    verifier_.emplace(header_, header_.tensors, gguf_.name());
  }

  void Pass(ByteView bytes) {
    output_.Write(bytes);
    if (progress_ != nullptr) progress_->Advance(bytes.size());
    at_ += bytes.size();
  }

  // Copies `n_bytes`, or fewer where the stream ends and they need not be there: `next` is the
  // tensor whose data they are, or that follows them.
  void CopyBytes(uint64_t n_bytes, const GgufExtent* next, bool is_data) {
    while (n_bytes != 0) {
      const MutableByteView want = buffer_.Room(std::min<uint64_t>(n_bytes, kStepBytes));
      const ByteView bytes = want.first(gguf_.Read(want));
      if (verifier_) is_data ? verifier_->AddTensor(next->tensor, bytes) : verifier_->AddOther(bytes);
      Pass(bytes);
      n_bytes -= bytes.size();
      if (bytes.size() == want.size()) continue;
      if (next == nullptr) return;
      throw DataError("gguf.tensor-past-eof", "stream ends inside the tensor's data")
          .File(Escaped(gguf_.name(), 4096))
          .Tensor(outline_.names[next->tensor])
          .Offset(at_)
          .Found(fmt::format("{} bytes in all", at_))
          .Expected(fmt::format("at least {}", outline_.data_end()))
          .Hint("the file is incomplete, or whatever writes into the pipe stopped before its end");
    }
  }

  ByteStream& gguf_;
  Output& output_;
  Progress* progress_;
  GgufOutline outline_;
  GgufHeader header_;
  std::optional<TrailerVerifier> verifier_;
  Scratch buffer_;
  uint64_t at_ = 0;
};

}  // namespace

uint64_t CopyGguf(ByteStream& gguf, Output& output, uint64_t max_header_bytes,
                  Progress* progress) {
  BufferedStream buffered(gguf);
  return Copy(buffered, output, progress).Run(max_header_bytes);
}

}  // namespace quern
