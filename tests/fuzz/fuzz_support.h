// What harnesses of formats that quern writes share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/core/error.h"
#include "formats/core/file.h"
#include "formats/view_stream.h"
#include "tests/fuzz/require.h"

namespace quern::fuzz {

using Bytes = std::vector<uint8_t>;

// Returns true if a reader may refuse a file in this way.
inline bool IsRefusal(const Error& error) {
  return error.has_file() &&
         (error.code() == ErrorCode::kData || error.code() == ErrorCode::kUnsupported);
}

// The bytes as they come through a pipe: the length is not known beforehand.
class Pipe final : public ViewStream {
 public:
  explicit Pipe(ByteView bytes) : ViewStream(bytes, kName) {}

 private:
  static inline const std::string kName = "pipe";
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
