// What the harnesses of quern's own formats share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "formats/core/error.h"
#include "formats/core/file.h"

namespace quern::fuzz {

using Bytes = std::vector<uint8_t>;

inline void Require(bool condition) {
  if (!condition) abort();
}

// Returns true if a reader may refuse a file in this way.
inline bool IsRefusal(const Error& error) {
  return error.has_file() &&
         (error.code() == ErrorCode::kData || error.code() == ErrorCode::kUnsupported);
}

// The bytes as they come through a pipe: the length is not known beforehand.
class Pipe final : public ByteStream {
 public:
  explicit Pipe(ByteView bytes) : bytes_(bytes) {}
  const std::string& name() const override { return name_; }
  std::optional<uint64_t> size_bytes() const override { return std::nullopt; }
  size_t Read(MutableByteView out) override {
    const size_t n = std::min<size_t>(out.size(), bytes_.size() - position_);
    if (n != 0) std::memcpy(out.data(), bytes_.data() + position_, n);
    position_ += n;
    return n;
  }

 private:
  std::string name_ = "pipe";
  ByteView bytes_;
};

class IntoVector final : public Output {
 public:
  explicit IntoVector(Bytes& out) : out_(out) {}
  const std::string& name() const override { return name_; }
  void Write(ByteView bytes) override { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  void Commit() override {}

 private:
  std::string name_ = "vector";
  Bytes& out_;
};

}  // namespace quern::fuzz
