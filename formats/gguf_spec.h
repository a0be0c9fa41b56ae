// The numbers of a model's graph, from the keys of its header.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "formats/core/error.h"
#include "formats/core/model_spec.h"
#include "formats/core/tensor.h"
#include "formats/gguf_key_reader.h"

namespace quern {

// What of the spec could be read, and otherwise why not.
struct SpecOrReason {
  std::optional<ModelSpec> spec;
  std::optional<Error> why_not;
};

// Reads the keys of general.architecture. `tensors` have their roles; `n_tokens` is the length of the
// vocabulary, 0 if there is none.
// Throws: Error kData "model.value", "gguf.key-type".
SpecOrReason ReadSpec(KeyReader& keys, std::string_view file,
                      const std::vector<TensorInfo>& tensors, uint64_t n_tokens);

}  // namespace quern
