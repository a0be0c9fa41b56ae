#include "verify/evaluate.h"

#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <optional>
#include <string>

#include "formats/core/error.h"
#include "verify/linear.h"
#include "verify/vocabulary.h"

namespace quern {
namespace {

std::string Mebibytes(uint64_t bytes) {
  return std::to_string((bytes + (uint64_t{1} << 20) - 1) >> 20) + " MiB";
}

class Evaluation {
 public:
  Evaluation(std::span<const Candidate> models, const Candidate* reference,
             const TextWindows& windows, const PerplexityOptions& options, const Looks& looks)
      : windows_(windows),
        options_(options),
        looks_(looks),
        candidates_(models.begin(), models.end()),
        n_models_(models.size()),
        predictions_(models.size()) {
    if (reference != nullptr) candidates_.push_back(*reference);
    steps_per_group_ = 0;
    for (const Candidate& c : candidates_) steps_per_group_ += c.model->spec().n_layers + 1;
  }

  std::vector<Predictions> Run() {
    const Group group = GroupThatFits();
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
      RunInArena(options_, workspace_bytes, [&] { RunGroup(first, count, group.part_rows); });
      first += count;
      if (looks_.enough && first == due && looks_.enough(predictions_)) break;
    }
    if (options_.progress != nullptr) options_.progress->End();
    return std::move(predictions_);
  }

 private:
  bool has_reference() const { return candidates_.size() > n_models_; }
  uint64_t reserve_bytes() const { return options_.memory_bytes / 8; }

  // What goes through the layers together.
  struct Group {
    uint64_t windows = 1;
    uint64_t part_rows = 0;  // as in WindowBatch
  };

  // Does not depend on the number of threads, so that neither do the products' shapes.
  Group GroupThatFits() const {
    uint64_t hidden_bytes = 0;  // per scored position
    for (const Candidate& c : candidates_) hidden_bytes += c.model->spec().d_model * sizeof(float);
    const uint64_t scored_bytes =
        windows_.n_scored * (hidden_bytes + SweepBytes(n_models_, has_reference()));
    const auto window_bytes = [&](uint64_t part_rows) {
      uint64_t activation_bytes = 0;
      for (const Candidate& c : candidates_) {
        activation_bytes =
            std::max(activation_bytes, c.model->ActivationBytes(1, windows_.context, part_rows));
      }
      return activation_bytes + scored_bytes;
    };
    const uint64_t budget = options_.memory_bytes - reserve_bytes();
    const uint64_t fits = budget / window_bytes(0);
    if (fits > 0) return {std::min(fits, windows_.n_windows), 0};
    // As many rows at a time as possible: every part reads the weights again.
    constexpr uint64_t kLeastPart = 512;
    for (uint64_t part = windows_.context / 2; part >= kLeastPart; part /= 2) {
      if (window_bytes(part) <= budget) return {1, part};
    }
    ThrowWindowDoesNotFit(candidates_[0].name, options_, windows_,
                          window_bytes(std::min(kLeastPart, windows_.context)));
  }

  void RunGroup(uint64_t first, uint64_t count, uint64_t part_rows) {
    steps_done_ = 0;
    const uint64_t begun = windows_told_;
    std::vector<std::vector<float>> hidden;  // per candidate [count * n_scored, d_model]
    for (const Candidate& c : candidates_) {
      hidden.emplace_back(count * windows_.n_scored * c.model->spec().d_model);
      c.model->Forward({.tokens = std::span(windows_.inputs)
                                      .subspan(first * windows_.context, count * windows_.context),
                        .n_windows = count,
                        .context = windows_.context,
                        .scored_begin = windows_.scored_begin,
                        .n_scored = windows_.n_scored,
                        .part_rows = part_rows,
                        .layer_done = [&] { Step(begun, count); }},
                       hidden.back());
    }
    std::vector<SweepInput> models;
    for (size_t i = 0; i < n_models_; ++i) models.push_back({&candidates_[i], hidden[i]});
    std::optional<SweepInput> reference;
    if (has_reference()) reference = {&candidates_.back(), hidden.back()};
    SweepVocabulary(models, reference ? &*reference : nullptr, windows_, first, count,
                    predictions_);
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
  std::vector<Candidate> candidates_;  // the models, then the reference
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

void RunInArena(const PerplexityOptions& options, uint64_t workspace_bytes,
                const std::function<void()>& work) {
  const uint64_t wanted = options.threads > 0
                              ? options.threads
                              : static_cast<uint64_t>(tbb::info::default_concurrency());
  const auto threads = static_cast<unsigned>(
      std::min(wanted, std::max<uint64_t>(1, options.memory_bytes / 8 / workspace_bytes)));
  const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
  tbb::task_arena arena(static_cast<int>(threads));
  arena.execute(work);
}

void ThrowWindowDoesNotFit(std::string_view model_name, const PerplexityOptions& options,
                           const TextWindows& windows, uint64_t window_bytes) {
  throw Error(ErrorCode::kMemory, "memory.budget", "one window does not fit in the memory limit")
      .File(model_name)
      .Found(Mebibytes(options.memory_bytes))
      .Expected("at least " + Mebibytes(window_bytes / 7 * 8 + 8) + " for " +
                std::to_string(windows.context) + " tokens")
      .Hint("raise --memory or lower --context");
}

std::vector<Predictions> Evaluate(std::span<const Candidate> models, const Candidate* reference,
                                  const TextWindows& windows, const PerplexityOptions& options,
                                  const Looks& looks) {
  return Evaluation(models, reference, windows, options, looks).Run();
}

}  // namespace quern
