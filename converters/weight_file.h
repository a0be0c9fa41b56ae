// One file of named tensors, whichever format it is in: what Hugging Face's folders hold.
#pragma once

#include <algorithm>
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

// The 8-bit float types that checkpoints have and GGUF has not.
// Source: OCP 8-bit Floating Point Specification 1.0; E4M3 has no infinity ("FN").
enum class Float8 : uint8_t { kE4M3, kE5M2 };

// Name, type and shape are views that live as long as the file.
struct WeightTensor {
  std::string_view name;
  std::optional<DType> dtype;    // nothing where quern has no such type
  std::optional<Float8> float8;  // set for 8-bit floats, which have no dtype
  std::string_view dtype_name;   // in the file's own words
  uint32_t elem_bytes = 0;       // 0 for elements smaller than a byte
  std::span<const uint64_t> shape;

  // Requires: at most two dimensions.
  uint64_t rows() const { return shape.size() < 2 ? 1 : shape[0]; }
  uint64_t cols() const { return shape.empty() ? 1 : shape.back(); }
  uint64_t row_bytes() const { return cols() * elem_bytes; }
  bool HasShape(std::span<const uint64_t> dims) const { return std::ranges::equal(shape, dims); }
};

// ReadRows may be called from many threads at once.
class WeightFile {
 public:
  virtual ~WeightFile() = default;
  virtual const std::string& name() const = 0;
  std::span<const WeightTensor> tensors() const { return tensors_; }
  // Returns true if the file's format has sums and this file left them out.
  virtual bool lacks_sums() const { return false; }
  // Copies whole rows of tensors()[tensor].
  // Requires: a vector or matrix with elements of whole bytes; the rows exist; out has exactly
  // their bytes.
  // Throws: Error kData if the file is damaged; kSystem.
  virtual void ReadRows(size_t tensor, uint64_t begin, uint64_t count,
                        MutableByteView out) const = 0;
  // Returns the offset of an element in the file. Requires: as ReadRows; the element exists.
  virtual uint64_t ByteOffsetOf(size_t tensor, uint64_t row, uint64_t col) const = 0;

 protected:
  std::vector<WeightTensor> tensors_;
};

// Opens a safetensors file or a torch checkpoint, told by its first bytes. With `verify_crc`, a
// torch file's sums are compared while its bytes are read (safetensors has none).
// Throws: Error as SafetensorsFile::Open and TorchCheckpoint::Open; kData or kUnsupported "input.*"
// for files of other kinds.
std::unique_ptr<WeightFile> OpenWeightFile(std::shared_ptr<const RandomAccessBytes> bytes,
                                           bool verify_crc);

}  // namespace quern
