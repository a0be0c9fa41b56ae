#include "verify/evaluate.h"

#include <tbb/blocked_range.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <string>

#include "formats/core/error.h"
#include "formats/run_on_threads.h"
#include "verify/linear.h"
#include "verify/vocabulary.h"

namespace quern {
namespace {

std::string Mebibytes(uint64_t bytes) {
  return std::to_string((bytes + (uint64_t{1} << 20) - 1) >> 20) + " MiB";
}

class Evaluation {
 public:
  Evaluation(std::span<const Candidate> models, const Reference& reference,
             const TextWindows& windows, const PerplexityOptions& options, const Looks& looks,
             LogitsWriter* save)
      : windows_(windows),
        options_(options),
        looks_(looks),
        logits_(reference.logits),
        save_(save),
        candidates_(models.begin(), models.end()),
        n_models_(models.size()),
        predictions_(models.size()) {
    if (reference.model != nullptr) candidates_.push_back(*reference.model);
    steps_per_group_ = 0;
    for (const Candidate& c : candidates_) steps_per_group_ += c.model->spec().n_layers + 1;
  }

  std::vector<Predictions> Run() {
    const WindowGroup group =
        GroupThatFits(candidates_[0].name, options_.memory_bytes, windows_.context,
                      windows_.n_windows, [&](const WindowGroup& g) { return WindowBytes(g); },
                      save_bytes());
    if (options_.progress != nullptr) {
      options_.progress->Begin("perplexity", windows_.n_windows, "windows");
    }
    uint64_t workspace_bytes = 0;
    for (const Candidate& c : candidates_) {
      workspace_bytes = std::max(workspace_bytes, c.model->WorkspaceBytes(windows_.context));
    }
    auto look = looks_.windows.begin();
    for (uint64_t first = 0; first < windows_.n_windows;) {
      // A group ends where a look is due: what is decided does not depend on the memory.
      while (look != looks_.windows.end() && *look <= first) ++look;
      const uint64_t due = look == looks_.windows.end() ? windows_.n_windows : *look;
      const uint64_t count = std::min({group.windows, windows_.n_windows - first, due - first});
      RunInArena(options_.threads, options_.memory_bytes, workspace_bytes,
                 [&] { RunGroup(first, count, group); });
      first += count;
      if (looks_.enough && first == due && looks_.enough(predictions_)) break;
    }
    if (options_.progress != nullptr) options_.progress->End();
    return std::move(predictions_);
  }

 private:
  bool has_reference_model() const { return candidates_.size() > n_models_; }

  // Rows whose logits are kept until they are saved take a quarter of the memory.
  uint64_t save_bytes() const { return save_ == nullptr ? 0 : options_.memory_bytes / 4; }
  uint64_t RowsAtATime(const WindowGroup& group, uint64_t n_rows) const {
    const uint64_t rows = group.RowsAtATime(n_rows);
    if (save_ == nullptr) return rows;
    const uint64_t fits = save_bytes() / SaveBytes(candidates_[0].model->spec().vocab_size);
    return std::clamp<uint64_t>(fits, 1, rows);
  }

  uint64_t WindowBytes(const WindowGroup& group) const {
    uint64_t hidden_bytes = 0, activation_bytes = 0;  // hidden: per scored position
    for (const Candidate& c : candidates_) {
      hidden_bytes += c.model->spec().d_model * sizeof(float);
      activation_bytes =
          std::max(activation_bytes,
                   c.model->ActivationBytes(1, windows_.context, group.part_rows, group.place));
    }
    const uint64_t swept = group.RowsAtATime(windows_.n_scored);
    const uint64_t kept = group.place == RowPlace::kMemory ? windows_.n_scored : swept;
    const bool compared = has_reference_model() || logits_ != nullptr;
    return activation_bytes + kept * hidden_bytes + swept * SweepBytes(n_models_, compared);
  }

  void RunGroup(uint64_t first, uint64_t count, const WindowGroup& group) {
    steps_done_ = 0;
    const uint64_t begun = windows_told_;
    std::vector<RowStore> hidden;  // per candidate [count * n_scored, d_model]
    for (const Candidate& c : candidates_) {
      hidden.emplace_back(count * windows_.context, c.model->spec().d_model, group.place);
      c.model->Forward({.tokens = std::span(windows_.inputs)
                                      .subspan(first * windows_.context, count * windows_.context),
                        .n_windows = count,
                        .context = windows_.context,
                        .scored_begin = windows_.scored_begin,
                        .n_scored = windows_.n_scored,
                        .part_rows = group.part_rows,
                        .place = group.place,
                        .layer_done = [&] { Step(begun, count); }},
                       hidden.back());
    }
    std::vector<SweepInput> models;
    for (size_t i = 0; i < n_models_; ++i) models.push_back({&candidates_[i], &hidden[i]});
    const SweepInput reference = {&candidates_.back(), &hidden.back()};
    SweepVocabulary(models,
                    {.model = has_reference_model() ? &reference : nullptr, .logits = logits_},
                    windows_, first, count, RowsAtATime(group, count * windows_.n_scored),
                    predictions_, save_);
    for (size_t i = 0; i < candidates_.size(); ++i) Step(begun, count);
  }

  // A layer of one candidate is done: tells the group's share of windows that this amounts to.
  void Step(uint64_t begun, uint64_t windows_in_group) {
    ++steps_done_;
    const uint64_t done = begun + windows_in_group * steps_done_ / steps_per_group_;
    if (options_.progress != nullptr && done > windows_told_) {
      options_.progress->Advance(done - windows_told_);
    }
    windows_told_ = std::max(windows_told_, done);
  }

  const TextWindows& windows_;
  const PerplexityOptions& options_;
  const Looks& looks_;
  const LogitsFile* logits_;
  LogitsWriter* save_;
  std::vector<Candidate> candidates_;  // the models, then a reference that is one
  size_t n_models_;
  std::vector<Predictions> predictions_;  // per model
  uint64_t steps_per_group_ = 1, steps_done_ = 0, windows_told_ = 0;
};

}  // namespace

ForwardOptions SharedWorkspaces(const PerplexityOptions& options) {
  ForwardOptions forward = options.forward;
  forward.workspaces = MakeWorkspaces(ChooseProduct(forward));
  return forward;
}

WindowGroup GroupThatFits(std::string_view model_name, uint64_t memory_bytes, uint64_t context,
                          uint64_t most_windows,
                          const std::function<uint64_t(const WindowGroup&)>& window_bytes,
                          uint64_t reserved_bytes) {
  const uint64_t budget = memory_bytes - memory_bytes / 8 - reserved_bytes;
  const uint64_t fits = budget / window_bytes({});
  if (fits > 0) return {.windows = std::min(fits, most_windows)};
  // Every part reads the weights again. Parts are as many rows as products take at a time, so that
  // these see the same blocks of rows as they do of whole windows.
  constexpr uint64_t kPartStep = 512;
  WindowGroup group;
  for (const RowPlace place : {RowPlace::kMemory, RowPlace::kFile}) {
    group.place = place;
    for (uint64_t part = (context - 1) / kPartStep * kPartStep; part > 0; part -= kPartStep) {
      group.part_rows = part;
      if (window_bytes(group) <= budget) return group;
    }
  }
  const uint64_t least =
      reserved_bytes + window_bytes(group.part_rows == 0 ? WindowGroup() : group);
  throw Error(ErrorCode::kMemory, "memory.budget", "one window does not fit in the memory limit")
      .File(Escaped(model_name, 4096))
      .Found(Mebibytes(memory_bytes))
      .Expected("at least " + Mebibytes(least / 7 * 8 + 8) + " for " + std::to_string(context) +
                " tokens")
      .Hint("raise --memory or lower --context");
}

void RunInArena(unsigned threads, uint64_t memory_bytes, uint64_t workspace_bytes,
                const std::function<void()>& work) {
  const uint64_t wanted =
      threads > 0 ? threads : static_cast<uint64_t>(tbb::info::default_concurrency());
  const auto fitting = static_cast<unsigned>(
      std::min(wanted, std::max<uint64_t>(1, memory_bytes / 8 / workspace_bytes)));
  RunOnThreads(fitting, work);
}

std::vector<Predictions> Evaluate(std::span<const Candidate> models, const Reference& reference,
                                  const TextWindows& windows, const PerplexityOptions& options,
                                  const Looks& looks, LogitsWriter* save) {
  return Evaluation(models, reference, windows, options, looks, save).Run();
}

}  // namespace quern
