// What the tests of the containers share: errors as values, whole models as bytes.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/core/error.h"
#include "formats/core/file.h"
#include "formats/core/stream.h"
#include "formats/gguf_reader.h"
#include "formats/gguf_writer.h"

namespace quern::testing {

// Returns the error that `action` throws, or nothing.
inline std::optional<Error> ErrorOf(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

// Expects an error of that class and id whose line names every word, and the file.
inline void ExpectError(const std::function<void()>& action, ErrorCode code, std::string_view id,
                        const std::vector<std::string>& words = {}) {
  const auto error = ErrorOf(action);
  ASSERT_TRUE(error.has_value()) << "no error; expected " << id;
  EXPECT_EQ(error->code(), code) << error->what();
  EXPECT_EQ(error->id(), id) << error->what();
  for (const auto& word : words) {
    EXPECT_NE(std::string(error->what()).find(word), std::string::npos)
        << word << " is not in: " << error->what();
  }
  EXPECT_TRUE(error->has_file()) << error->what();
}

// A stream that gives at most `step` bytes to each call of the one below, and does not know its
// length.
class MemoryStream final : public ByteStream {
 public:
  explicit MemoryStream(ByteView bytes, std::optional<uint64_t> size = std::nullopt)
      : bytes_(bytes), size_(size) {}
  const std::string& name() const override { return name_; }
  std::optional<uint64_t> size_bytes() const override { return size_; }
  size_t Read(MutableByteView out) override {
    ++n_reads_;
    const size_t n = std::min<size_t>(out.size(), bytes_.size() - position_);
    if (n != 0) std::memcpy(out.data(), bytes_.data() + position_, n);
    position_ += n;
    return n;
  }
  size_t n_reads() const { return n_reads_; }

 private:
  std::string name_ = "(stream)";
  ByteView bytes_;
  std::optional<uint64_t> size_;
  size_t n_reads_ = 0;
};

inline std::shared_ptr<const MemoryBytes> InMemory(ByteView bytes) {
  return std::make_shared<const MemoryBytes>(bytes, "(memory)");
}

// Writes to a vector that outlives the output.
class VectorOutput final : public Output {
 public:
  explicit VectorOutput(std::vector<uint8_t>& out, bool* committed = nullptr)
      : out_(out), committed_(committed) {}
  const std::string& name() const override { return name_; }
  void Write(ByteView bytes) override { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  void Commit() override {
    if (committed_ != nullptr) *committed_ = true;
  }

 private:
  std::string name_ = "(vector)";
  std::vector<uint8_t>& out_;
  bool* committed_;
};

// Returns what the writer makes of a source, with bands of at most `band_bytes` (but whole rows).
inline std::vector<uint8_t> WriteGguf(TensorSource& source, size_t band_bytes = 1 << 20) {
  uint64_t widest = 1;
  for (const TensorInfo& tensor : source.manifest().tensors)
    widest = std::max(widest, tensor.row_bytes());
  std::vector<uint8_t> out, buffer(std::max<uint64_t>(widest, band_bytes));
  const auto sink = MakeGgufWriter(std::make_unique<VectorOutput>(out));
  sink->Begin(source.manifest());
  while (const auto band = source.Next(buffer)) sink->Put(*band);
  sink->Finish();
  return out;
}
inline std::vector<uint8_t> WriteGguf(const TensorStore& store, size_t band_bytes = 1 << 20) {
  StoreWalk walk(store);
  return WriteGguf(walk, band_bytes);
}

// Returns all bytes of tensor `i`.
inline std::vector<uint8_t> TensorBytes(const TensorStore& store, size_t i) {
  const TensorInfo& info = store.manifest().tensors[i];
  std::vector<uint8_t> out(info.size_bytes());
  store.ReadRows(i, 0, info.rows(), out);
  return out;
}

// Returns the folder of the assets that are not committed, whether it exists or not.
inline std::string AssetsFolder() {
  const char* folder = std::getenv("QUERN_ASSETS");
  return folder != nullptr ? folder : QUERN_SOURCE_DIR "/../shared/assets";
}

}  // namespace quern::testing
