// Perplexity of models over a text, and their divergence from a reference, all evaluated in step:
// no file of logits, and never more of them than a tile of the vocabulary. Source: llama.cpp's
// llama-perplexity (the protocol of the same name).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/core/file.h"
#include "formats/core/log.h"
#include "formats/core/stream.h"
#include "formats/logits_file.h"
#include "verify/gates.h"
#include "verify/report.h"

namespace quern {

struct PerplexityOptions {
  Protocol protocol = Protocol::kLlamaCpp;
  uint64_t context = 0;          // Tokens per window; 0: the protocol's default (512 or 2,048).
  uint64_t chunks = 0;           // At most so many windows; 0: all.
  uint64_t part = 1, parts = 1;  // Of those, the windows w with w mod parts = part - 1.
  unsigned threads = 0;          // 0: as many as the machine has. The result does not depend on it.
  uint64_t memory_bytes = uint64_t{2} << 30;
  ForwardOptions forward;
  GateOptions gates;                 // With any, the run ends as soon as all are decided.
  // In place of a reference: a file of what it predicted. Only the windows that it has are evaluated,
  // and without a context they are as long as its.
  const LogitsFile* reference_logits = nullptr;
  // Opens the file, of so many bytes, that what the first model predicts goes to. May be empty.
  std::function<std::unique_ptr<Output>(uint64_t)> save_logits = {};
  const Report* baseline = nullptr;  // An earlier report, from the file `baseline_name`: only
  std::string baseline_name;         // the windows that it has are evaluated.
  std::string text_name;             // for messages; may be empty
  Progress* progress = nullptr;      // May be null. Units: windows.
};

// Measures `models`, in step, over `text`, and their divergence from `reference` unless it is null.
// Returns one report per model, by rising size.
// Requires: files of logits only with llama.cpp's protocol; save_logits without parts, gates and
// baseline, so that all windows are evaluated; not both a reference and reference_logits.
// Throws: Error kUsage "perplexity.context" for a context below 4 tokens, "perplexity.part" for a
// part without windows; kData "text.short" for a text of fewer than two windows (one with the
// papers' protocol), "forward.non-finite" where a logit is NaN or infinite, "divergence.vocabulary"
// where two models do not turn the text into the same tokens or their vocabularies differ in size,
// "baseline.differs" where the baseline measured something else; "logits.differs" where the file of
// logits is of something else, as LogitsFile and SweepVocabulary where it is damaged; kMemory "memory.budget" where one
// window does not fit; errors of the tokenizer and of the model, which name the model's file.
std::vector<Report> ComparePerplexity(std::span<const TensorStore* const> models,
                                      const TensorStore* reference, std::string_view text,
                                      const PerplexityOptions& options);

// The same for one model without a reference.
Report Perplexity(const TensorStore& model, std::string_view text,
                  const PerplexityOptions& options);

// Returns a hash that tells models apart: of all tensors' names, types and shapes, and of the bytes
// of eight rows of each, from the first to the last.
// Throws: as TensorStore::ReadRows.
uint64_t Fingerprint(const TensorStore& model);

}  // namespace quern
