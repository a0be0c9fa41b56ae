// Reads GGUF, versions 1 to 3, little-endian: the header, an opened file, a stream.
//
// Nothing in the file is believed before it was checked against the limits of gguf_format.h and,
// where it is known, the file's length.
// Source: formats/GGUF.md.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/core/file.h"
#include "formats/core/manifest.h"
#include "formats/core/metadata.h"
#include "formats/core/stream.h"
#include "formats/core/tensor.h"
#include "formats/gguf_format.h"

namespace quern {

// A parsed header: valid in itself, uninterpreted (formats/gguf_metadata.h interprets it).
struct GgufHeader {
  uint32_t version = 0;
  uint64_t alignment = kGgufAlignment;
  std::vector<MetadataEntry> metadata;  // every key, in file order
  std::vector<TensorInfo> tensors;      // names, types and shapes; role is kOther
  std::vector<uint64_t> offsets;        // of each tensor, from data_offset
  uint64_t header_bytes = 0;            // up to the end of the last tensor info
  uint64_t data_offset = 0;             // header_bytes aligned up; equal to it without tensors
  uint64_t data_end = 0;                // behind the last tensor and its padding

  // For formats/integrity_trailer.h: XXH3-64 of the header_bytes as they are; the same with zeros
  // for the value of quern.trailer; of the tensor infos alone; and that value.
  uint64_t header_hash = 0;
  uint64_t seal = 0;
  uint64_t infos_hash = 0;
  std::optional<uint64_t> trailer_key;

  bool operator==(const GgufHeader&) const = default;
};

// Reads exactly the header's bytes (up to header_bytes) from a stream that stands at its beginning.
// Many small reads: give a BufferedStream where the stream is a descriptor.
// Throws: Error kData or kUnsupported with ids "gguf.*" (the list is in GGUF.md, "What a reader
// must reject"); where stream.size_bytes() is known, also "gguf.tensor-past-eof".
GgufHeader ReadGgufHeader(ByteStream& stream);
// The same from bytes with random access.
GgufHeader ReadGgufHeader(const RandomAccessBytes& bytes);

struct TrailerVerdict;

// One opened GGUF file, whole or a part of a split model. Every extent was validated before any
// access.
class GgufFile final : public TensorStore {
 public:
  // Throws: as ReadGgufHeader and ManifestFromGguf.
  explicit GgufFile(std::shared_ptr<const RandomAccessBytes> bytes);
  // The same, where `header` was read from `bytes` before.
  GgufFile(std::shared_ptr<const RandomAccessBytes> bytes, GgufHeader header);

  const Manifest& manifest() const override { return manifest_; }
  const std::string& name() const override { return bytes_->name(); }
  void ReadRows(size_t tensor, uint64_t begin, uint64_t count, MutableByteView out) const override;

  StoredPlace PlaceOf(size_t tensor, uint64_t row, uint64_t col) const override;
  // From the integrity trailer (formats/integrity_trailer.h).
  std::vector<std::optional<uint64_t>> TensorHashes() const override;
  uint64_t HashTensor(size_t tensor) const override;
  void VerifyFrame() const override;
  TrailerVerdict JudgeTrailer() const;
  uint64_t reading_bytes() const override { return bytes_->reading_bytes(); }

  // The layout of the file. Its metadata and tensors were moved into the manifest.
  const GgufHeader& layout() const { return header_; }
  const RandomAccessBytes& bytes() const { return *bytes_; }
  // The offset in the file of the first byte of tensor `i`.
  uint64_t tensor_offset(size_t i) const { return header_.data_offset + header_.offsets[i]; }
  // Units: bytes of the file behind data_end.
  uint64_t trailing_bytes() const;

 private:
  std::shared_ptr<const RandomAccessBytes> bytes_;
  GgufHeader header_;
  Manifest manifest_;
};

// Returns the model in `bytes`; where that is one part of a split model, the whole model, whose
// other parts are found beside it by name (formats/gguf_split.h). Throws: as GgufFile and
// OpenSplitGguf.
std::unique_ptr<TensorStore> OpenGguf(std::shared_ptr<const RandomAccessBytes> bytes);

// Returns a source over a GGUF stream. It reads on to the end of the stream after the last tensor,
// so that whoever writes into the pipe is never cut off, and compares all it read with the
// integrity trailer, if there is one. Throws: as GgufFile; kUnsupported "gguf.split" for a part of
// a split model; its Next throws kData "gguf.tensor-past-eof", naming the tensor, where the stream
// ends early; "trailer.*" at the end where the trailer does not agree.
std::unique_ptr<TensorSource> ReadGgufStream(std::unique_ptr<ByteStream> stream);

}  // namespace quern
