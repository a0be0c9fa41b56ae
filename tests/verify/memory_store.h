// Tensors in memory, for tests of what reads every weight.
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "formats/core/error.h"
#include "formats/core/stream.h"

namespace quern {

// Reading tensor `unreadable` fails; reading any of them, where all are.
class MemoryStore final : public TensorStore {
 public:
  void Add(const std::string& name, DType dtype, Shape shape, std::vector<uint8_t> bytes) {
    TensorInfo info;
    info.name = name;
    info.dtype = dtype;
    info.shape = shape;
    manifest_.tensors.push_back(info);
    bytes_.push_back(std::move(bytes));
  }
  void AddF32(const std::string& name, Shape shape, const std::vector<float>& values) {
    std::vector<uint8_t> bytes(values.size() * 4);
    if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
    Add(name, DType::kF32, shape, std::move(bytes));
  }
  // All 0.5 but those at the given places.
  void AddF32(const std::string& name, uint64_t rows, uint64_t cols,
              const std::map<uint64_t, float>& odd) {
    std::vector<float> values(rows * cols, 0.5f);
    for (const auto& [place, value] : odd) values[place] = value;
    AddF32(name, Shape{rows, cols}, values);
  }
  const Manifest& manifest() const override { return manifest_; }
  const std::string& name() const override { return name_; }
  void ReadRows(size_t tensor, uint64_t begin, uint64_t count, MutableByteView out) const override {
    if (manifest_.tensors[tensor].name == unreadable) {
      throw DataError("zip.crc", "wrong sum").File(name_).Where("tensor " + unreadable);
    }
    if (all_unreadable) throw DataError("zip.crc", "wrong sum").File(name_);
    const uint64_t row_bytes = manifest_.tensors[tensor].row_bytes();
    std::memcpy(out.data(), bytes_[tensor].data() + begin * row_bytes, count * row_bytes);
  }
  StoredPlace PlaceOf(size_t, uint64_t row, uint64_t col) const override {
    return {"shard.pth", 1000 + row * 10 + col};
  }
  std::string unreadable;
  bool all_unreadable = false;

 private:
  Manifest manifest_;
  std::vector<std::vector<uint8_t>> bytes_;
  std::string name_ = "store";
};

}  // namespace quern
