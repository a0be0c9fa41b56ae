// Perplexity of a model over a text.
// Source: llama.cpp's llama-perplexity (the protocol of the same name).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "formats/core/log.h"
#include "formats/core/stream.h"
#include "verify/report.h"

namespace quern {

struct PerplexityOptions {
  Protocol protocol = Protocol::kLlamaCpp;
  uint64_t context = 0;   // Tokens per window; 0: the protocol's default (512 or 2,048).
  uint64_t chunks = 0;    // At most so many windows; 0: all.
  unsigned threads = 0;   // 0: as many as the machine has. The result does not depend on it.
  uint64_t memory_bytes = uint64_t{2} << 30;
  ForwardOptions forward;
  Progress* progress = nullptr;  // May be null. Units: windows.
};

// Measures `model` over `text`.
// Throws: Error kUsage "perplexity.context" for a context below 4 tokens; kData "text.short" for a
// text of fewer than two windows (one with the papers' protocol), "forward.non-finite" where a
// logit is NaN or infinite; kMemory "memory.budget" where one window does not fit; errors of the
// tokenizer and of the model, which name the model's file.
Report Perplexity(const TensorStore& model, std::string_view text, const PerplexityOptions& options);

// Returns mean and standard error, sqrt((mean of squares - squared mean) / (n - 1)), 0 where that
// is not positive or n < 2.
Estimate EstimateMean(std::span<const double> values);

// Returns exp(mean) and its error by the delta method: value * mean's error.
Estimate PerplexityOf(const Estimate& mean_nll);

}  // namespace quern
