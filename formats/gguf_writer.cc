#include "formats/gguf_writer.h"

#include <algorithm>
#include <bit>

#include "formats/core/check.h"
#include "formats/core/checked.h"
#include "formats/core/hash.h"
#include "formats/gguf_format.h"
#include "formats/gguf_metadata.h"
#include "formats/integrity_trailer.h"

namespace quern {
namespace {

uint64_t AlignUp(uint64_t n_bytes, uint32_t alignment) {
  const auto aligned = CheckedAlignUp(n_bytes, alignment);
  QUERN_CHECK(aligned.has_value());
  return *aligned;
}

class HeaderEncoder {
 public:
  // Returns the encoded header with its padding; header_bytes() is its length without, of which the
  // tensor infos begin at infos_begin().
  std::vector<uint8_t> Encode(const Manifest& manifest, bool has_trailer) {
    QUERN_CHECK(std::has_single_bit(manifest.alignment));
    std::vector<MetadataEntry> metadata = MetadataFromManifest(manifest);
    if (has_trailer) {
      // First: tools that write files anew begin with general.architecture, so that what they make
      // of the same keys is not the same header.
      metadata.insert(metadata.begin(),
                      {std::string(kGgufTrailerKey), {MetadataType::kUint64, uint64_t{0}}});
    }
    Put<uint32_t>(kGgufMagic);
    Put<uint32_t>(kGgufVersion);
    Put<uint64_t>(manifest.tensors.size());
    Put<uint64_t>(metadata.size());
    size_t trailer_value = 0;
    for (const MetadataEntry& entry : metadata) {
      PutString(entry.key);
      PutValue(entry.value);
      if (trailer_value == 0) trailer_value = out_.size() - sizeof(uint64_t);
    }
    infos_begin_ = out_.size();
    uint64_t offset = 0;
    for (const TensorInfo& tensor : manifest.tensors) {
      PutTensorInfo(tensor, offset);
      offset += AlignUp(tensor.size_bytes(), manifest.alignment);
    }
    header_bytes_ = out_.size();
    // The hash is taken while zeros stand where it goes.
    if (has_trailer) StoreLE(&out_[trailer_value], Xxh3(out_));
    if (!manifest.tensors.empty()) out_.resize(AlignUp(out_.size(), manifest.alignment));
    return std::move(out_);
  }
  size_t header_bytes() const { return header_bytes_; }
  size_t infos_begin() const { return infos_begin_; }

 private:
  template <typename T>
  void Put(T value) {
    out_.resize(out_.size() + sizeof(T));
    StoreLE(out_.data() + out_.size() - sizeof(T), value);
  }
  void PutBytes(ByteView bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  void PutString(std::string_view text) {
    Put<uint64_t>(text.size());
    PutBytes(AsBytes(text));
  }

  void PutValue(const MetadataValue& value) {
    Put(static_cast<uint32_t>(value.type));
    if (value.type == MetadataType::kString) {
      PutString(value.text());
    } else if (value.type == MetadataType::kArray) {
      PutArray(value.array());
    } else {
      uint8_t bits[8];
      StoreLE(bits, value.bits());
      PutBytes({bits, ScalarBytes(value.type)});
    }
  }
  void PutArray(const MetadataArray& array) {
    Put(static_cast<uint32_t>(array.elem_type));
    Put<uint64_t>(array.size());
    PutBytes(array.scalars);
    for (size_t i = 0; i < array.strings.size(); ++i) PutString(array.strings[i]);
  }

  void PutTensorInfo(const TensorInfo& tensor, uint64_t offset) {
    QUERN_CHECK(!tensor.name.empty() && tensor.name.size() <= kGgufMaxTensorNameBytes);
    QUERN_CHECK(tensor.shape.rank() >= 1);
    PutString(tensor.name);
    Put(static_cast<uint32_t>(tensor.shape.rank()));
    // On disk the contiguous dimension comes first.
    for (size_t i = tensor.shape.rank(); i-- > 0;) Put<uint64_t>(tensor.shape.dim(i));
    Put<uint32_t>(LayoutOf(tensor.dtype).gguf_id);
    Put<uint64_t>(offset);
  }

  std::vector<uint8_t> out_;
  size_t header_bytes_ = 0, infos_begin_ = 0;
};

class GgufWriter final : public TensorSink {
 public:
  GgufWriter(std::unique_ptr<Output> output, const GgufWriteOptions& options)
      : output_(std::move(output)), options_(options) {}

  void Begin(const Manifest& manifest) override {
    QUERN_CHECK(!has_begun_);
    has_begun_ = true;
    tensors_ = manifest.tensors;
    alignment_ = manifest.alignment;
    HeaderEncoder encoder;
    const auto header = encoder.Encode(manifest, options_.trailer);
    if (options_.trailer) {
      const ByteView bytes = ByteView(header).first(encoder.header_bytes());
      trailer_.header_hash = Xxh3(bytes);
      trailer_.infos_hash = Xxh3(bytes.subspan(encoder.infos_begin()));
    }
    output_->Write(header);
    SkipEmptyTensors();
  }

  void Put(const TensorBand& band) override {
    QUERN_CHECK(has_begun_ && tensor_ < tensors_.size());
    const TensorInfo& info = tensors_[tensor_];
    QUERN_CHECK(band.tensor == tensor_ && band.row_begin == row_ && band.row_count >= 1);
    QUERN_CHECK(band.row_count <= info.rows() - row_);
    QUERN_CHECK(band.bytes.size() == band.row_count * info.row_bytes());
    output_->Write(band.bytes);
    if (options_.trailer) hash_.Update(band.bytes);
    row_ += band.row_count;
    if (row_ != info.rows()) return;
    const uint8_t zeros[4096] = {};
    uint64_t n_padding = AlignUp(info.size_bytes(), alignment_) - info.size_bytes();
    while (n_padding != 0) {
      const uint64_t n = std::min<uint64_t>(n_padding, sizeof zeros);
      output_->Write({zeros, n});
      n_padding -= n;
    }
    EndTensor();
    SkipEmptyTensors();
  }

  void Finish() override {
    QUERN_CHECK(has_begun_ && tensor_ == tensors_.size());
    if (options_.trailer) output_->Write(EncodeTrailer(trailer_));
    output_->Commit();
  }

 private:
  // Tensors without elements have no bands.
  void SkipEmptyTensors() {
    while (tensor_ < tensors_.size() && tensors_[tensor_].size_bytes() == 0) EndTensor();
  }
  void EndTensor() {
    if (options_.trailer) {
      trailer_.tensor_hashes.push_back(hash_.Digest());
      hash_ = Xxh3Stream();
    }
    ++tensor_;
    row_ = 0;
  }

  std::unique_ptr<Output> output_;
  GgufWriteOptions options_;
  IntegrityTrailer trailer_;
  Xxh3Stream hash_;  // of the current tensor
  bool has_begun_ = false;
  std::vector<TensorInfo> tensors_;
  uint32_t alignment_ = 0;
  size_t tensor_ = 0;  // the tensor and row that must come next
  uint64_t row_ = 0;
};

}  // namespace

std::vector<uint8_t> EncodeGgufHeader(const Manifest& manifest, const GgufWriteOptions& options) {
  return HeaderEncoder().Encode(manifest, options.trailer);
}

uint64_t GgufFileBytes(const Manifest& manifest, const GgufWriteOptions& options) {
  uint64_t n_bytes = EncodeGgufHeader(manifest, options).size();
  for (const TensorInfo& tensor : manifest.tensors) {
    n_bytes += AlignUp(tensor.size_bytes(), manifest.alignment);
  }
  return n_bytes + (options.trailer ? TrailerBytes(manifest.tensors.size()) : 0);
}

std::unique_ptr<TensorSink> MakeGgufWriter(std::unique_ptr<Output> output,
                                           const GgufWriteOptions& options) {
  return std::make_unique<GgufWriter>(std::move(output), options);
}

}  // namespace quern
