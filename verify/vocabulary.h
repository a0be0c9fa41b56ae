// From what the layers leave to what each prediction is worth: the vocabulary goes by in tiles, so
// that no context × vocabulary buffer ever exists.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "verify/evaluate.h"

namespace quern {

// What one model's layers left of some windows.
struct SweepInput {
  const Candidate* candidate;
  const RowStore* hidden;  // [count * n_scored, d_model]
};

// Appends to `predictions` (one per model) what the windows [first, first + count) of `windows`
// give. The vocabulary goes by once for every `rows_at_a_time` scored positions. Work runs in the
// caller's oneTBB arena. Throws: Error kData "forward.non-finite"; as RowStore.
void SweepVocabulary(std::span<const SweepInput> models, const SweepInput* reference,
                     const TextWindows& windows, uint64_t first, uint64_t count,
                     uint64_t rows_at_a_time, std::span<Predictions> predictions);

// Returns the bytes that this takes per scored position at a time, beside `hidden`. Units: bytes.
uint64_t SweepBytes(uint64_t n_models, bool has_reference);

}  // namespace quern
