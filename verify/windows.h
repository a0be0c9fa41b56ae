// A text as windows of tokens, and which predictions in them count.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "formats/core/stream.h"
#include "verify/perplexity.h"

namespace quern {

struct TextWindows {
  uint64_t text_tokens = 0;  // of the whole text
  uint64_t context = 0;
  uint64_t n_windows = 0;        // to be evaluated
  uint64_t text_windows = 0;     // that the text has, or --chunks leaves, whatever part is taken
  std::vector<uint64_t> places;  // [n_windows]: of those, which
  // The predictions made at [scored_begin, scored_begin + n_scored) of each window count.
  uint64_t scored_begin = 0;
  uint64_t n_scored = 0;
  std::vector<int32_t> inputs;   // [n_windows, context]
  // [n_windows]: the text's first token of each, where `inputs` may have the begin token.
  std::vector<int32_t> first_tokens;
  std::vector<int32_t> targets;  // [n_windows, n_scored]: the token behind each scored position
};

// Returns options.context, or the protocol's where it is 0.
// Throws: Error kUsage "perplexity.context" if it is too short.
uint64_t ContextOf(const PerplexityOptions& options);

// Cuts `text`, tokenized by the vocabulary of `model`, as the protocol of `options` says, and takes
// the windows of options.part.
// Throws: as Perplexity.
TextWindows CutText(const TensorStore& model, std::string_view text,
                    const PerplexityOptions& options);

// Throws: Error kData "divergence.vocabulary" unless `model` cuts `text` into `base_windows`, which
// are those of `base`, and has a vocabulary of the same size.
void CheckSameVocabulary(const TensorStore& model, const TensorStore& base,
                         const TextWindows& base_windows, std::string_view text,
                         const PerplexityOptions& options);

// Leaves of `windows` those whose place is in `places`, which rise.
void KeepPlaces(std::span<const uint64_t> places, TextWindows& windows);

}  // namespace quern
