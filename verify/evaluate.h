// Models, and a reference, in step over the windows of a text.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "verify/archs.h"
#include "verify/windows.h"

namespace quern {

// A model under measurement; `name` is its file or folder, for messages.
struct Candidate {
  const LanguageModel* model;
  std::string_view name;
};

// When a run may end before the last window.
struct Looks {
  std::vector<uint64_t> windows;  // rising: after so many windows …
  // … this is asked, with what all models predicted so far; true ends the run.
  std::function<bool(std::span<const Predictions>)> enough;
};

// Returns options.forward with workspaces for all models that are opened with it.
ForwardOptions SharedWorkspaces(const PerplexityOptions& options);

// Evaluates `models`, and `reference` where it is given, over the windows: groups of as many as fit
// options.memory_bytes go through the layers together, then the vocabulary tile by tile. An eighth
// of the memory is left to what threads work with. Returns one Predictions per model; what they
// hold does not depend on which other models are there.
// Requires: the models were opened with the same SharedWorkspaces, or take more memory.
// Throws: as ComparePerplexity.
std::vector<Predictions> Evaluate(std::span<const Candidate> models, const Candidate* reference,
                                  const TextWindows& windows, const PerplexityOptions& options,
                                  const Looks& looks = {});

// Runs `work` in an arena of options.threads threads, or of as many as the machine has, but no more
// than have room for `workspace_bytes` each in an eighth of options.memory_bytes.
void RunInArena(const PerplexityOptions& options, uint64_t workspace_bytes,
                const std::function<void()>& work);

// Throws: Error kMemory "memory.budget" for windows that take `window_bytes` each.
[[noreturn]] void ThrowWindowDoesNotFit(std::string_view model_name,
                                        const PerplexityOptions& options,
                                        const TextWindows& windows, uint64_t window_bytes);

}  // namespace quern
