// Writes GGUF version 3: the header first and complete from the manifest, never seeking back, so
// that a pipe serves as well as a file. The bytes do not depend on how the rows come in bands.
// Source: formats/GGUF.md, "What a writer must do".
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "formats/core/file.h"
#include "formats/core/manifest.h"
#include "formats/core/stream.h"

namespace quern {

struct GgufWriteOptions {
  // Write the key quern.trailer and, behind the data, the integrity trailer.
  bool trailer = false;
};

// Returns the header with the zero bytes that align the data section.
std::vector<uint8_t> EncodeGgufHeader(const Manifest& manifest,
                                      const GgufWriteOptions& options = {});

// Units: bytes of the file that the writer makes of `manifest`, exactly.
uint64_t GgufFileBytes(const Manifest& manifest, const GgufWriteOptions& options = {});

// Returns a sink that writes to `output` and commits it at Finish.
std::unique_ptr<TensorSink> MakeGgufWriter(std::unique_ptr<Output> output,
                                           const GgufWriteOptions& options = {});

}  // namespace quern
