// Where the data of a GGUF file's tensors lies: as much of its header as that takes, and no more.
//
// ReadGgufHeader is strict, since a model comes of it. QPACK only wants to know which bytes are
// blocks of which type, in every file that begins as GGUF, whoever wrote it: this reader skips what
// it need not know (keys, arrays of arrays), and leaves out tensors that it cannot place (unknown
// types, overlaps). It believes nothing either: whatever the header says, extents do not overlap.
// Source: formats/QPACK.md, "Outline".
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "formats/core/dtype.h"
#include "formats/core/file.h"
#include "formats/core/string_list.h"

namespace quern {

// The data of one tensor.
struct GgufExtent {
  uint64_t begin = 0, bytes = 0;  // in the file; whole blocks of the type, at least one
  uint32_t tensor = 0;            // index among the tensor infos
  DType type = DType::kF32;

  uint64_t end() const { return begin + bytes; }
};

struct GgufOutline {
  uint64_t header_bytes = 0;        // up to the end of the tensor infos
  std::vector<GgufExtent> extents;  // in the order of their places, without overlap
  StringList names;                 // of the tensor infos, each cut at 120 bytes; for messages

  // Where the last extent ends, or the header.
  uint64_t data_end() const { return extents.empty() ? header_bytes : extents.back().end(); }
};

// Reads exactly the header's bytes from a stream that stands at its beginning.
// Returns nothing where they are not as this reader understands them; how far it has read then is
// not told.
// Throws: Error kData "gguf.truncated" where the stream ends inside the header.
std::optional<GgufOutline> ReadGgufOutline(ByteStream& stream);

}  // namespace quern
