// Models, and a reference, in step over the windows of a text.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "formats/logits_file.h"
#include "verify/archs.h"
#include "verify/windows.h"

namespace quern {

// A model under measurement; `name` is its file or folder, for messages.
struct Candidate {
  const LanguageModel* model;
  std::string_view name;
};

// What candidates are compared with: another, or a file of what it predicted; or nothing.
struct Reference {
  const Candidate* model = nullptr;
  const LogitsFile* logits = nullptr;
};

// When a run may end before the last window.
struct Looks {
  std::vector<uint64_t> windows;  // rising: after so many windows …
  // … this is asked, with what all models predicted so far; true ends the run.
  std::function<bool(std::span<const Predictions>)> enough;
};

// Returns options.forward with workspaces for all models that are opened with it.
ForwardOptions SharedWorkspaces(const PerplexityOptions& options);

// Evaluates `models`, and the reference where it is a model, over the windows: groups of as many as fit
// options.memory_bytes go through the layers together, then the vocabulary tile by tile. An eighth
// of the memory is left to what threads work with. Returns one Predictions per model; what they
// hold does not depend on which other models are there.
// Unless it is null, `save` gets the rows of the first model, window by window.
// Requires: the models were opened with the same SharedWorkspaces, or take more memory; a file was
// aligned with the windows.
// Throws: as ComparePerplexity.
std::vector<Predictions> Evaluate(std::span<const Candidate> models, const Reference& reference,
                                  const TextWindows& windows, const PerplexityOptions& options,
                                  const Looks& looks = {}, LogitsWriter* save = nullptr);

// What goes through the layers together.
struct WindowGroup {
  uint64_t windows = 1;
  uint64_t part_rows = 0;              // as in WindowBatch
  RowPlace place = RowPlace::kMemory;  // of what is kept of all rows of a window in parts

  // Returns as many of `n_rows` as are worked on at a time.
  uint64_t RowsAtATime(uint64_t n_rows) const {
    return part_rows == 0 ? n_rows : std::min(part_rows, n_rows);
  }
};

// Returns what fits in seven eighths of `memory_bytes` (the rest is for what threads work with): as
// many whole windows as possible, at most `most_windows`; else a window in parts, as large as
// possible; else one in parts whose rows are in a file. It does not depend on the number of
// threads, so that neither do the products' shapes. `window_bytes` returns what a window takes in a
// group; `reserved_bytes` are taken whatever the group.
// Throws: Error kMemory "memory.budget", naming the model, where nothing fits.
WindowGroup GroupThatFits(std::string_view model_name, uint64_t memory_bytes, uint64_t context,
                          uint64_t most_windows,
                          const std::function<uint64_t(const WindowGroup&)>& window_bytes,
                          uint64_t reserved_bytes = 0);

// Runs `work` in an arena of `threads` threads, or where that is 0 of as many as the machine has,
// but no more than have room for `workspace_bytes` each in an eighth of `memory_bytes`.
void RunInArena(unsigned threads, uint64_t memory_bytes, uint64_t workspace_bytes,
                const std::function<void()>& work);

}  // namespace quern
