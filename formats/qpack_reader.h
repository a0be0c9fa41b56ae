// Reads QPACK: the GGUF file inside appears as bytes, at random or in order, so that whatever reads
// GGUF reads QPACK. Every byte that is given out was compared with the hash of its segment.
// Source: formats/QPACK.md.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/core/file.h"
#include "formats/core/finding.h"
#include "formats/core/log.h"
#include "formats/gguf_reader.h"

namespace quern {

// The GGUF file inside a QPACK, with random access. Its name is the QPACK's; offsets are the GGUF
// file's. Memory: at most about 64 MiB and the directory, 8 bytes for each segment.
class QpackBytes final : public RandomAccessBytes {
 public:
  // Unpacks the GGUF header and checks the directory against it.
  // Throws: Error kData and kUnsupported, "qpack.*" (the list is in QPACK.md, "What a reader must
  // reject") and what ReadGgufHeader throws.
  explicit QpackBytes(std::shared_ptr<const RandomAccessBytes> file);
  ~QpackBytes() override;

  uint64_t size_bytes() const override;
  const std::string& name() const override;
  // Segments of which all bytes are wanted are unpacked in parallel and into `out`; a few of those
  // of which only a part was wanted are kept.
  // Throws: Error kData "qpack.segment", naming tensor and segment, where one is damaged.
  void ReadAt(uint64_t offset, MutableByteView out) const override;

  // Returns the header of the GGUF file inside, as ReadGgufHeader gives it. To be called once.
  GgufHeader TakeHeader();
  uint64_t packed_bytes() const;
  uint64_t n_segments() const;
  // Returns the offset behind the last byte that the segment of the byte at `offset` holds.
  uint64_t SegmentEnd(uint64_t offset) const;
  // Returns what is wrong with the segment that holds the byte at `offset`.
  std::optional<Error> CheckSegmentAt(uint64_t offset) const;

 private:
  class Archive;
  std::unique_ptr<Archive> archive_;
};

// Returns the model in a QPACK. Throws: as QpackBytes and GgufFile; kUnsupported "qpack.split" for
// a part of a split model.
std::unique_ptr<TensorStore> OpenQpack(std::shared_ptr<const RandomAccessBytes> file);

// Returns the GGUF file inside a QPACK stream. It unpacks ahead, in parallel, at most 16 MiB, and
// reads the stream to its end. Throws: as QpackBytes; what is wrong with a part of the stream comes
// with the Read that reaches it.
std::unique_ptr<ByteStream> UnpackStream(std::unique_ptr<ByteStream> qpack);

// Returns the model in a QPACK stream. Throws: as UnpackStream and ReadGgufStream.
std::unique_ptr<TensorSource> ReadQpackStream(std::unique_ptr<ByteStream> qpack);

// Returns every fault of a QPACK that can be told without knowing what weights mean: each damaged
// segment, or where there is none, what CheckGgufIntegrity finds in the GGUF file inside.
std::vector<Finding> CheckQpack(std::shared_ptr<const RandomAccessBytes> file,
                                Progress* progress = nullptr);

}  // namespace quern
