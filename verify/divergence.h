// Perplexity of a model together with its divergence from a reference, both evaluated in step: no
// file of logits, and never more of them than a tile of the vocabulary.
#pragma once

#include "verify/perplexity.h"

namespace quern {

// Measures `model` and `reference` over `text`; Report::divergence is set.
// Throws: as Perplexity; Error kData "divergence.vocabulary" where the two do not turn the text into
// the same tokens or their vocabularies differ in size.
Report PerplexityAgainst(const TensorStore& model, const TensorStore& reference,
                         std::string_view text, const PerplexityOptions& options);

}  // namespace quern
