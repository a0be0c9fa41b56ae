// Bytes in memory as a stream of unknown length: a GGUF header whose file is to come.
#pragma once

#include <algorithm>
#include <cstring>

#include "formats/core/file.h"

namespace quern {

class ViewStream : public ByteStream {
 public:
  // Requires: both outlive it.
  ViewStream(ByteView bytes, const std::string& name) : bytes_(bytes), name_(name) {}
  const std::string& name() const override { return name_; }
  std::optional<uint64_t> size_bytes() const override { return std::nullopt; }
  size_t Read(MutableByteView out) override {
    const size_t n = std::min<size_t>(out.size(), bytes_.size() - position_);
    if (n != 0) std::memcpy(out.data(), bytes_.data() + position_, n);
    position_ += n;
    return n;
  }

 private:
  ByteView bytes_;
  const std::string& name_;
};

}  // namespace quern
