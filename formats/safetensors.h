// safetensors files: a length, a JSON header that places every tensor, and the tensors' bytes.
// Source: README and format description of huggingface/safetensors.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/core/bytes.h"
#include "formats/core/dtype.h"
#include "formats/core/file.h"

namespace quern {

inline constexpr uint64_t kSafetensorsMaxHeaderBytes = 100'000'000;
inline constexpr size_t kSafetensorsMaxRank = 8;

// One tensor, row-major and contiguous, its extent checked. Name and shape live as long as the file.
struct SafetensorsTensor {
  std::string_view name;
  std::optional<DType> dtype;   // nothing where quern has no such type (BOOL, F8_E4M3, …)
  std::string_view dtype_name;  // as in the file: "F16", "BF16", "F8_E4M3", …
  uint32_t elem_bits = 0;
  std::span<const uint64_t> shape;  // rank 0 to 8
  uint64_t file_offset = 0;
  uint64_t size_bytes = 0;
};

class SafetensorsFile {
 public:
  // Reads the header and checks every extent; reads no weights. Tensors must fill the data part
  // without holes or overlap. Requires: `bytes` outlives the file.
  // Throws: Error kData "safetensors.truncated", "safetensors.header-length", "safetensors.header",
  //   "safetensors.shape", "safetensors.shape-overflow", "safetensors.offsets",
  //   "safetensors.trailing-bytes", "json.*",
  //   "text.utf8"; kUnsupported "safetensors.dtype", "safetensors.rank", "json.limit"; as
  //   WrongKind for files saved in place of the real one.
  static SafetensorsFile Open(const RandomAccessBytes& bytes);

  const std::string& name() const { return bytes_->name(); }
  // In the order of the bytes in the file.
  std::span<const SafetensorsTensor> tensors() const { return tensors_; }
  // Returns the tensor of that name, or nullptr. Cost: logarithmic.
  const SafetensorsTensor* Find(std::string_view tensor_name) const;

  // Copies bytes [begin, begin + out.size()) of the tensor.
  // Requires: they exist. Throws: Error kData "input.truncated"; kSystem.
  void Read(const SafetensorsTensor& tensor, uint64_t begin, MutableByteView out) const;

 private:
  explicit SafetensorsFile(const RandomAccessBytes& bytes)
      : bytes_(&bytes), texts_(std::make_unique<Texts>()) {}

  // What the tensors' views lead to: headers of 100 MB have millions of names, and memory must stay
  // in proportion.
  struct Texts {
    std::string names;
    std::vector<uint64_t> dims;
  };

  const RandomAccessBytes* bytes_;
  std::unique_ptr<Texts> texts_;
  std::vector<SafetensorsTensor> tensors_;
  std::vector<uint32_t> by_name_;  // indices of tensors_, sorted by name
};

}  // namespace quern
