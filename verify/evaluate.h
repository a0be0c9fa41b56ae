// One model, or a model and a reference in step, over the windows of a text.
#pragma once

#include <cstdint>
#include <vector>

#include "verify/archs.h"
#include "verify/windows.h"

namespace quern {

// A model under measurement; `name` is its file or folder, for messages.
struct Candidate {
  const LanguageModel* model;
  std::string_view name;
};

// One value per prediction that counts, window by window.
struct Predictions {
  std::vector<double> nll;            // of the model. Units: nats.
  std::vector<double> reference_nll;  // empty without a reference, as the next two
  std::vector<double> kld;            // KL(reference || model). Units: nats.
  std::vector<uint8_t> same_top1;     // 1 where both find the same token most likely
};

// Evaluates `candidate`, and `reference` where it is given, over all windows: groups of as many as
// fit options.memory_bytes go through the layers together, then the vocabulary tile by tile.
// An eighth of the memory is left to what threads work with.
// Throws: as PerplexityAgainst.
Predictions Evaluate(const Candidate& candidate, const Candidate* reference,
                     const TextWindows& windows, const PerplexityOptions& options);

}  // namespace quern
