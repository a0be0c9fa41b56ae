// Turns many small reads of a stream into few large ones.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "formats/core/file.h"

namespace quern {

// Requires: `inner` outlives it and is read through it only.
class BufferedStream final : public ByteStream {
 public:
  explicit BufferedStream(ByteStream& inner, size_t buffer_bytes = size_t{64} << 10)
      : inner_(inner), buffer_(buffer_bytes) {}

  const std::string& name() const override { return inner_.name(); }
  std::optional<uint64_t> size_bytes() const override { return inner_.size_bytes(); }

  size_t Read(MutableByteView out) override {
    size_t done = TakeBuffered(out);
    if (done < out.size()) {
      if (out.size() - done >= buffer_.size()) {
        done += inner_.Read(out.subspan(done));
      } else {
        Fill();
        done += TakeBuffered(out.subspan(done));
      }
    }
    position_ += done;
    return done;
  }

  // Returns the next bytes without consuming them: `n` of them, fewer only at the end of the
  // stream. Requires: n is at most the buffer's size; nothing was read yet.
  ByteView Peek(size_t n) {
    if (end_ == 0) Fill();
    return ByteView(buffer_).subspan(begin_, std::min(n, end_ - begin_));
  }

 private:
  size_t TakeBuffered(MutableByteView out) {
    const size_t n = std::min(out.size(), end_ - begin_);
    if (n != 0) std::memcpy(out.data(), buffer_.data() + begin_, n);
    begin_ += n;
    return n;
  }
  void Fill() {
    begin_ = 0;
    end_ = inner_.Read(buffer_);
  }

  ByteStream& inner_;
  std::vector<uint8_t> buffer_;
  size_t begin_ = 0, end_ = 0;
};

}  // namespace quern
