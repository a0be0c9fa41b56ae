// Header ⇄ manifest. Only these files know GGUF's keys (gguf_keys) and tensor names (gguf_names).
//
// ManifestFromGguf(MetadataFromManifest(m), m.tensors) == m for every manifest that came from a
// header or a converter: what is interpreted is written back, what is not stays in
// Manifest::metadata, in order.
// Source: formats/GGUF.md, "Keys".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/core/manifest.h"
#include "formats/core/metadata.h"
#include "formats/core/tensor.h"
#include "formats/gguf_names.h"

namespace quern {

// Interprets a header. `spec` stays absent where general.architecture is unknown, a key that it
// needs is missing, or it uses something quern does not compute: such a file can still be
// inspected, copied and packed (RequireSpec says why it cannot be run).
// Throws: Error kData "model.value" (a key's value is impossible), "gguf.key-type" (its type is),
// "tokenizer.*"; kUnsupported "gguf.quantization-version".
Manifest ManifestFromGguf(std::vector<MetadataEntry> metadata, std::vector<TensorInfo> tensors,
                          std::string_view file);

// Which part of a split model a file is.
struct GgufSplit {
  uint32_t index = 0;      // of this file, from 0
  uint32_t n_parts = 0;    // at least 2
  uint32_t n_tensors = 0;  // in all parts together
};
// Returns what the keys split.* say, or nothing if the file is a whole model.
// Throws: Error kData "gguf.key-type", "gguf.split".
std::optional<GgufSplit> SplitOf(const std::vector<MetadataEntry>& metadata, std::string_view file);

// Returns the keys of the header of `manifest`, in canonical order.
std::vector<MetadataEntry> MetadataFromManifest(const Manifest& manifest);

// Returns the spec.
// Throws: Error kUnsupported "model.architecture", "model.feature", or kData "model.missing-key",
// that names what is missing.
const ModelSpec& RequireSpec(const Manifest& manifest, std::string_view file);

}  // namespace quern
