// The parts of a QPACK around its segments, read and written: prologue, directory, footer.
// Source: formats/QPACK.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/core/bytes.h"
#include "formats/core/error.h"
#include "formats/core/file.h"
#include "formats/qpack_format.h"

namespace quern {

struct QpackPrologue {
  uint32_t segment_bytes = kQpackSegmentBytes;
  // Of the GGUF file, up to the end of its tensor infos; 0 where its header was not understood, or
  // is longer than kGgufMaxHeaderBytes.
  uint64_t header_bytes = 0;
};

std::vector<uint8_t> EncodeQpackPrologue(const QpackPrologue& prologue);
// Requires: kQpackPrologueBytes bytes.
// Throws: Error kData or kUnsupported "qpack.*"; `file` is for its message.
QpackPrologue ParseQpackPrologue(ByteView bytes, const std::string& file);

struct QpackFooter {
  uint64_t gguf_bytes = 0;
  uint64_t n_segments = 0;
  uint64_t hash = 0;  // of the directory and the two numbers
};

// Returns the end mark, the directory (the bytes of every segment, in order) and the footer.
std::vector<uint8_t> EncodeQpackEnd(uint64_t gguf_bytes, const std::vector<uint32_t>& directory);
// Requires: kQpackFooterBytes bytes. Throws: Error kData "qpack.truncated" if they are no footer.
QpackFooter ParseQpackFooter(ByteView bytes, const std::string& file);
// Throws: Error kData "qpack.directory" if directory and footer do not have the footer's hash.
void CheckQpackHash(const QpackFooter& footer, ByteView directory, const std::string& file);

// Holds the GGUF header inside a QPACK to its limit, segment by segment, as it is packed and
// unpacked: what is small packed must not take much memory.
class QpackHeaderBudget {
 public:
  // Returns true if a segment of `raw_bytes` of header may be packed into `packed_bytes`.
  bool Allows(uint64_t raw_bytes, uint64_t packed_bytes) const {
    return raw_ + raw_bytes <= kQpackFreeHeaderBytes + packed_ + packed_bytes;
  }
  void Add(uint64_t raw_bytes, uint64_t packed_bytes) {
    raw_ += raw_bytes;
    packed_ += packed_bytes;
  }

 private:
  uint64_t raw_ = 0, packed_ = 0;
};

// Returns a kData error about `file`, with what to do about it.
Error QpackError(std::string_view id, std::string_view what, const std::string& file);

}  // namespace quern
