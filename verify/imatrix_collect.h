// Importance of columns: how large the inputs of every matrix of a model are over calibration
// texts, column by column, as llama-imatrix collects it. verify/IMATRIX.md has the definitions.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "formats/core/log.h"
#include "formats/core/stream.h"
#include "formats/imatrix_file.h"
#include "verify/archs.h"

namespace quern {

struct CalibrationText {
  std::string name;  // Imatrix::datasets says it
  std::string text;
};

struct ImatrixOptions {
  uint64_t context = 0;        // tokens per window; 0: 512
  uint64_t chunks = 0;         // at most so many windows of all texts together; 0: all
  bool output_matrix = false;  // The matrix of the vocabulary too.
  ForwardOptions forward;
  unsigned threads = 0;  // 0: as many as the machine has. The result does not depend on it.
  uint64_t memory_bytes = uint64_t{2} << 30;
  Progress* progress = nullptr;  // May be null. Units: windows.
  // Asked between layers; true ends the run with what whole groups of windows gave. May be empty.
  std::function<bool()> stop = {};
};

struct CollectedImatrix {
  Imatrix imatrix;            // GGUF layout; no entries where it was stopped before the first group
  uint64_t windows = 0;       // that it holds
  uint64_t text_windows = 0;  // that were to be evaluated
};

// Returns the mean squares of the inputs of the model's matrices over all tokens of the windows.
// Every text is cut into windows of its own, as with llama.cpp's perplexity.
// Throws: as ComparePerplexity, with the texts' names where they are at fault; Error kData
// "forward.non-finite" naming the matrix whose input is NaN or infinite.
// Cost: every weight is read once per 4,096 tokens or window.
CollectedImatrix CollectImatrix(const TensorStore& model, std::span<const CalibrationText> texts,
                                const ImatrixOptions& options);

}  // namespace quern
