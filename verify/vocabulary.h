// From what the layers leave to what each prediction is worth: the vocabulary goes by in tiles, so
// that no context × vocabulary buffer ever exists.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "formats/logits_file.h"
#include "verify/evaluate.h"

namespace quern {

// What one model's layers left of some windows.
struct SweepInput {
  const Candidate* candidate;
  const RowStore* hidden;  // [count * n_scored, d_model]
};

// What models are compared with: what another one's layers left, or a file of what it predicted; or
// nothing.
struct SweepReference {
  const SweepInput* model = nullptr;
  const LogitsFile* logits = nullptr;

  bool exists() const { return model != nullptr || logits != nullptr; }
};

// Appends to `predictions` (one per model) what the windows [first, first + count) of `windows`
// give. The vocabulary goes by once for every `rows_at_a_time` scored positions. Unless it is null,
// `save` gets the rows of the first model. Work runs in the caller's oneTBB arena.
// Throws: Error kData "forward.non-finite"; "logits.row" for rows of a file that are no
// probabilities; as RowStore and LogitsWriter.
void SweepVocabulary(std::span<const SweepInput> models, const SweepReference& reference,
                     const TextWindows& windows, uint64_t first, uint64_t count,
                     uint64_t rows_at_a_time, std::span<Predictions> predictions,
                     LogitsWriter* save = nullptr);

// Returns the bytes that this takes per scored position at a time, beside `hidden`. Units: bytes.
uint64_t SweepBytes(uint64_t n_models, bool has_reference);
// Returns how many bytes more it takes where rows are saved. Units: bytes.
uint64_t SaveBytes(uint64_t vocab_size);

}  // namespace quern
