// The table of GGUF's keys that quern interprets, in the order in which it writes them.
// Source: formats/GGUF.md, "Keys".
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "formats/core/manifest.h"
#include "formats/core/metadata.h"

namespace quern {

// Which part of the manifest a key belongs to. The rows of kArch need a spec and are named
// "ARCH.suffix", those of kVocabulary need a vocabulary that quern interprets.
enum class GgufPart : uint8_t { kGeneral, kMetadata, kArch, kVocabulary };

// One row per key that quern writes, in the order in which it writes them; the row of kMetadata is
// the place of everything that is not interpreted.
struct GgufKey {
  GgufPart part;
  std::string_view key;
  // Returns the value, or nothing if the manifest has none. Requires: as `part` says.
  std::optional<MetadataValue> (*get)(const Manifest& manifest);
};

// Returns the table.
std::span<const GgufKey> AllGgufKeys();

}  // namespace quern
