#include "converters/weight_file.h"

#include <algorithm>

#include "converters/shard_merge.h"
#include "formats/formats.h"
#include "formats/safetensors.h"
#include "formats/torch_checkpoint.h"

namespace quern {
namespace {

class SafetensorsWeights final : public WeightFile {
 public:
  explicit SafetensorsWeights(std::shared_ptr<const RandomAccessBytes> bytes)
      : bytes_(std::move(bytes)), file_(SafetensorsFile::Open(*bytes_)) {
    tensors_.reserve(file_.tensors().size());
    for (const SafetensorsTensor& tensor : file_.tensors()) {
      std::optional<Float8> float8;
      if (tensor.dtype_name == "F8_E4M3") float8 = Float8::kE4M3;
      if (tensor.dtype_name == "F8_E5M2") float8 = Float8::kE5M2;
      const uint32_t elem_bytes = tensor.elem_bits % 8 == 0 ? tensor.elem_bits / 8 : 0;
      tensors_.push_back(
          {tensor.name, tensor.dtype, float8, tensor.dtype_name, elem_bytes, tensor.shape});
    }
  }
  const std::string& name() const override { return bytes_->name(); }
  void ReadRows(size_t tensor, uint64_t begin, uint64_t /*count*/,
                MutableByteView out) const override {
    file_.Read(file_.tensors()[tensor], begin * tensors_[tensor].row_bytes(), out);
  }
  uint64_t ByteOffsetOf(size_t tensor, uint64_t row, uint64_t col) const override {
    const WeightTensor& info = tensors_[tensor];
    return file_.tensors()[tensor].file_offset + (row * info.cols() + col) * info.elem_bytes;
  }

 private:
  std::shared_ptr<const RandomAccessBytes> bytes_;  // file_ refers to it
  SafetensorsFile file_;
};

class TorchWeights final : public WeightFile {
 public:
  TorchWeights(std::shared_ptr<const RandomAccessBytes> bytes, bool verify_crc)
      : bytes_(std::move(bytes)), file_(TorchCheckpoint::Open(*bytes_, {verify_crc})) {
    for (const TorchTensor& tensor : file_.tensors()) {
      tensors_.push_back({tensor.name, tensor.dtype, std::nullopt, tensor.dtype_name,
                          tensor.elem_bytes, tensor.shape});
    }
  }
  const std::string& name() const override { return bytes_->name(); }
  bool lacks_sums() const override { return !file_.has_sums(); }
  void ReadRows(size_t tensor, uint64_t begin, uint64_t count, MutableByteView out) const override {
    file_.ReadRows(file_.tensors()[tensor], begin, count, out);
  }
  uint64_t ByteOffsetOf(size_t tensor, uint64_t row, uint64_t col) const override {
    return quern::ByteOffsetOf(file_, file_.tensors()[tensor], row, col);
  }

 private:
  std::shared_ptr<const RandomAccessBytes> bytes_;  // file_ refers to it
  TorchCheckpoint file_;
};

}  // namespace

std::unique_ptr<WeightFile> OpenWeightFile(std::shared_ptr<const RandomAccessBytes> bytes,
                                           bool verify_crc) {
  const auto head = bytes->ReadVector(0, std::min<uint64_t>(bytes->size_bytes(), kDetectBytes));
  switch (const FileKind kind = DetectKind(head, bytes->name())) {
    case FileKind::kTorchZip:
    case FileKind::kTorchLegacy:
    case FileKind::kTar:
      return std::make_unique<TorchWeights>(std::move(bytes), verify_crc);
    case FileKind::kSafetensors:
      return std::make_unique<SafetensorsWeights>(std::move(bytes));
    default:
      throw WrongKind(kind, head, bytes->name(), "a safetensors file or torch checkpoint");
  }
}

}  // namespace quern
