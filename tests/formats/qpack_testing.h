// What the tests of QPACK share: whole files packed and unpacked in memory.
#pragma once

#include "formats/qpack_reader.h"
#include "formats/qpack_writer.h"
#include "tests/formats/gguf_builder.h"
#include "tests/formats/testing.h"

namespace quern::testing {

inline Bytes Packed(ByteView gguf, const QpackWriteOptions& options = {}) {
  Bytes out;
  bool committed = false;
  MemoryStream stream(gguf);
  EXPECT_EQ(PackGguf(stream, std::make_unique<VectorOutput>(out, &committed), options),
            gguf.size());
  EXPECT_TRUE(committed);
  return out;
}

// Returns what comes out of a QPACK stream, read `step` bytes at a time.
inline Bytes Unpacked(ByteView qpack, size_t step = 1 << 20) {
  const auto stream = UnpackStream(std::make_unique<MemoryStream>(qpack));
  Bytes out, buffer(step);
  while (const size_t n = stream->Read(buffer)) {
    out.insert(out.end(), buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(n));
  }
  return out;
}

// Returns the whole of the GGUF file inside, by random access.
inline Bytes UnpackedAtRandom(ByteView qpack) {
  const QpackBytes bytes(InMemory(qpack));
  return bytes.ReadVector(0, bytes.size_bytes());
}

// A GGUF file with a tensor of every type, `n_blocks` blocks each: bytes that differ in entropy.
inline GgufBuilder EveryType(uint64_t n_blocks) {
  GgufBuilder b;
  b.U32("general.quantization_version", 2);
  for (const BlockLayout& layout : AllLayouts()) {
    Bytes bytes = Pattern(n_blocks * layout.block_bytes, layout.gguf_id + 1);
    for (size_t i = 0; i < bytes.size(); i += 2) bytes[i] &= 15;
    b.Tensor(std::string(layout.name), {n_blocks * layout.block_elems}, layout.gguf_id, bytes);
  }
  return b;
}

}  // namespace quern::testing
