// What the tests of the converters share.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "converters/meta_checkpoint.h"
#include "formats/core/error.h"
#include "tests/converters/make_checkpoint.h"

namespace quern::testing {

// A folder that disappears with its object.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Returns the folder of assets that are not committed, or "" where there is none.
std::string AssetsFolder();

// Bytes in memory that own themselves.
class OwnedBytes final : public RandomAccessBytes {
 public:
  OwnedBytes(std::vector<uint8_t> bytes, std::string name)
      : bytes_(std::move(bytes)), view_(bytes_, std::move(name)) {}
  uint64_t size_bytes() const override { return view_.size_bytes(); }
  const std::string& name() const override { return view_.name(); }
  void ReadAt(uint64_t offset, MutableByteView out) const override { view_.ReadAt(offset, out); }

 private:
  std::vector<uint8_t> bytes_;
  MemoryBytes view_;
};

// Returns the made files as OpenMetaFiles wants them.
MetaFiles InMemory(const std::vector<FileBytes>& files);

// Returns all rows of a tensor, read `rows_at_once` at a time.
std::vector<uint8_t> ReadAll(const TensorStore& store, size_t tensor, uint64_t rows_at_once);

// Returns the file that the GGUF writer makes of the store.
std::vector<uint8_t> GgufBytes(const TensorStore& store);

// Calls `action` and returns the Error that it throws; fails the test if it throws none.
template <typename Action>
Error Caught(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error was thrown";
  return Error(ErrorCode::kBug, "test.none", "no error");
}

// Expects the error's id and that its line and hint contain every one of `words`.
void ExpectError(const Error& error, ErrorCode code, const std::string& id,
                 const std::vector<std::string>& words);

}  // namespace quern::testing

// Skips the test, aloud, if the assets are not there.
#define QUERN_REQUIRE_ASSETS()                                   \
  if (::quern::testing::AssetsFolder().empty()) {                \
    GTEST_SKIP() << "no assets: set QUERN_ASSETS to their folder"; \
  }                                                              \
  static_assert(true)
