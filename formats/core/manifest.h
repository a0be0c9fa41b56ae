// A model in motion is a manifest followed by bands of rows. The manifest is complete before the
// first band: every tensor, in order, with its exact size. It holds no time, host or path.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/core/metadata.h"
#include "formats/core/model_spec.h"
#include "formats/core/tensor.h"
#include "formats/core/tokenizer.h"

namespace quern {

// Where a model came from, as far as it changes what it means. Written into the output as
// `quern.*` keys; equal for equal inputs and flags.
struct Provenance {
  std::string quern_version;          // of the pass that converted it; empty if quern did not
  std::string source_format;          // of a GGUF that says so; empty otherwise
  std::string context_length_source;  // "rule: …" where nothing states it; empty otherwise

  bool operator==(const Provenance&) const = default;
};

struct Manifest {
  std::string name;  // general.name: --name or a config's, never a folder's; may be empty
  std::optional<ModelSpec>
      spec;  // absent where the file is no model quern knows (still copied, packed)
  Tokenizer tokenizer;
  std::vector<TensorInfo> tensors;
  std::optional<uint32_t> file_type;    // general.file_type
  uint32_t alignment = 32;              // general.alignment: bytes, a power of two
  std::vector<MetadataEntry> metadata;  // keys that are not interpreted, in order
  Provenance provenance;

  // Units: bytes of all tensors, without padding.
  uint64_t tensor_bytes() const {
    uint64_t sum = 0;
    for (const TensorInfo& tensor : tensors) sum += tensor.size_bytes();
    return sum;
  }
  // Units: number of weights.
  uint64_t n_elems() const {
    uint64_t sum = 0;
    for (const TensorInfo& tensor : tensors) sum += tensor.shape.n_elems();
    return sum;
  }
  bool operator==(const Manifest&) const = default;
};

}  // namespace quern
