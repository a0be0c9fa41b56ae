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
#include "formats/core/stream.h"
#include "formats/gguf_format.h"

namespace quern {

struct QpackWorkspace;

// Returns memory for decoders and pieces that several QpackBytes may share, such as the parts of a
// split model.
std::shared_ptr<QpackWorkspace> MakeQpackWorkspace();

// The GGUF file inside a QPACK, with random access. Its name is the QPACK's; offsets are the GGUF
// file's. Memory: at most about reading_bytes() for each workspace, and 16 bytes for each segment.
class QpackBytes final : public RandomAccessBytes {
 public:
  // Unpacks the GGUF header, as far as it tells where tensors lie, and checks the directory.
  // Throws: Error kData and kUnsupported, "qpack.*" (the list is in QPACK.md, "What a reader must
  // reject").
  explicit QpackBytes(std::shared_ptr<const RandomAccessBytes> file,
                      std::shared_ptr<QpackWorkspace> workspace = MakeQpackWorkspace());
  ~QpackBytes() override;

  uint64_t size_bytes() const override;
  const std::string& name() const override;
  uint64_t reading_bytes() const override;
  // Segments of which all bytes are wanted are unpacked in parallel and into `out`; a few of those
  // of which only a part was wanted are kept.
  // Throws: Error kData "qpack.segment", naming tensor and segment, where one is damaged.
  void ReadAt(uint64_t offset, MutableByteView out) const override;

  uint64_t packed_bytes() const;
  uint64_t n_segments() const;
  // Returns a finding for each damaged segment.
  std::vector<Finding> CheckSegments(Progress* progress = nullptr) const;

 private:
  class Archive;
  std::unique_ptr<Archive> archive_;
};

// Returns true if the bytes are those of a QPACK by their beginning.
bool IsQpack(const RandomAccessBytes& bytes);
// Returns the GGUF file in `file`: what is inside, if that is a QPACK, else `file` itself.
// Throws: as QpackBytes.
std::shared_ptr<const RandomAccessBytes> GgufBytesIn(
    std::shared_ptr<const RandomAccessBytes> file,
    std::shared_ptr<QpackWorkspace> workspace = MakeQpackWorkspace());

// Returns the model in a QPACK. Throws: as QpackBytes and OpenGguf.
std::unique_ptr<TensorStore> OpenQpack(std::shared_ptr<const RandomAccessBytes> file);

// Returns the GGUF file inside a QPACK stream. It unpacks in parallel and into the reader's buffer
// where whole segments fit, else at most 8 MiB ahead, and reads the stream to its end.
// Throws: as QpackBytes; what is wrong with a part of the stream comes with the Read that reaches
// it.
std::unique_ptr<ByteStream> UnpackStream(std::unique_ptr<ByteStream> qpack);

// Returns the model in a QPACK stream. Throws: as UnpackStream and ReadGgufStream.
std::unique_ptr<TensorSource> ReadQpackStream(std::unique_ptr<ByteStream> qpack);

// Unpacks the GGUF file that comes through `qpack` into `output`, and commits it. Its integrity
// trailer is compared, if it has one. Progress is advanced by its bytes. Returns its bytes.
// Throws: as UnpackStream and CopyGguf.
uint64_t UnpackQpack(std::unique_ptr<ByteStream> qpack, std::unique_ptr<Output> output,
                     uint64_t max_header_bytes = kGgufMaxHeaderBytes,
                     Progress* progress = nullptr);

// Returns every fault of a QPACK that can be told without knowing what weights mean: of its own
// structure; each damaged segment; where there is none, what CheckGgufIntegrity finds in the GGUF
// file inside. Without `hash_tensors` it leaves out what takes reading the tensors.
std::vector<Finding> CheckQpack(std::shared_ptr<const RandomAccessBytes> file,
                                bool hash_tensors = true, Progress* progress = nullptr);

}  // namespace quern
