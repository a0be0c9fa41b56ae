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
#include "quant/codec.h"
#include "verify/ops.h"

namespace quern {
namespace {

// Entries of the vocabulary whose logits exist at a time.
constexpr uint64_t kVocabularyTile = 1024;

std::string Mebibytes(uint64_t bytes) {
  return std::to_string((bytes + (uint64_t{1} << 20) - 1) >> 20) + " MiB";
}

// What is kept per prediction while the vocabulary goes by. Without a reference only the
// candidate's half (q) is used.
struct RunningSums {
  DivergenceSums sums;
  double target_p = 0, target_q = 0;  // the target's logits
  bool finite = true;
};

class Evaluation {
 public:
  Evaluation(const Candidate& candidate, const Candidate* reference, const TextWindows& windows,
             const PerplexityOptions& options)
      : windows_(windows), options_(options) {
    candidates_.push_back(candidate);
    if (reference != nullptr) candidates_.push_back(*reference);
    steps_per_group_ = 0;
    for (const Candidate& c : candidates_) steps_per_group_ += c.model->spec().n_layers + 1;
  }

  Predictions Run() {
    const uint64_t group = WindowsPerGroup();
    if (options_.progress != nullptr) {
      options_.progress->Begin("perplexity", windows_.n_windows, "windows");
    }
    const unsigned threads = Threads();
    const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    tbb::task_arena arena(static_cast<int>(threads));
    for (uint64_t first = 0; first < windows_.n_windows; first += group) {
      arena.execute([&] { RunGroup(first, std::min(group, windows_.n_windows - first)); });
    }
    if (options_.progress != nullptr) options_.progress->End();
    return std::move(predictions_);
  }

 private:
  bool has_reference() const { return candidates_.size() > 1; }
  uint64_t reserve_bytes() const { return options_.memory_bytes / 8; }

  // Does not depend on the number of threads, so that neither do the products' shapes.
  uint64_t WindowsPerGroup() const {
    uint64_t activation_bytes = 0;
    uint64_t scored_bytes = sizeof(RunningSums);  // per scored position
    for (const Candidate& c : candidates_) {
      activation_bytes = std::max(activation_bytes, c.model->ActivationBytes(1, windows_.context));
      scored_bytes += (c.model->spec().d_model + kVocabularyTile) * sizeof(float);
    }
    const uint64_t window_bytes = activation_bytes + windows_.n_scored * scored_bytes;
    const uint64_t fits = (options_.memory_bytes - reserve_bytes()) / window_bytes;
    if (fits == 0) {
      throw Error(ErrorCode::kMemory, "memory.budget", "one window does not fit in the memory limit")
          .File(candidates_[0].name)
          .Found(Mebibytes(options_.memory_bytes))
          .Expected("at least " + Mebibytes(window_bytes / 7 * 8 + 8) + " for " +
                    std::to_string(windows_.context) + " tokens")
          .Hint("raise --memory or lower --context");
    }
    return std::min(fits, windows_.n_windows);
  }

  // Fewer than asked for where the memory left for threads does not hold so many workspaces.
  unsigned Threads() const {
    uint64_t workspace_bytes = 0;
    for (const Candidate& c : candidates_) {
      workspace_bytes += c.model->WorkspaceBytes(windows_.context);
    }
    const uint64_t wanted = options_.threads > 0
                                ? options_.threads
                                : static_cast<uint64_t>(tbb::info::default_concurrency());
    return static_cast<unsigned>(
        std::min(wanted, std::max<uint64_t>(1, reserve_bytes() / workspace_bytes)));
  }

  void RunGroup(uint64_t first, uint64_t count) {
    steps_done_ = 0;
    windows_told_ = 0;
    std::vector<std::vector<float>> hidden;  // per candidate [count * n_scored, d_model]
    for (const Candidate& c : candidates_) {
      hidden.emplace_back(count * windows_.n_scored * c.model->spec().d_model);
      c.model->Forward({.tokens = std::span(windows_.inputs)
                                      .subspan(first * windows_.context, count * windows_.context),
                        .n_windows = count,
                        .context = windows_.context,
                        .scored_begin = windows_.scored_begin,
                        .n_scored = windows_.n_scored,
                        .layer_done = [&] { Step(count); }},
                       hidden.back());
    }
    std::vector<RunningSums> sums(count * windows_.n_scored);
    SweepVocabulary(first, hidden, sums);
    CheckFinite(first, sums);
    for (size_t row = 0; row < sums.size(); ++row) Record(sums[row]);
    for (size_t i = 0; i < candidates_.size(); ++i) Step(count);
  }

  void SweepVocabulary(uint64_t first, const std::vector<std::vector<float>>& hidden,
                       std::vector<RunningSums>& sums) const {
    const uint64_t vocab_size = candidates_[0].model->spec().vocab_size;
    const uint64_t n_rows = sums.size();
    std::vector<std::vector<float>> logits(candidates_.size());  // [n_rows, kVocabularyTile]
    for (auto& tile : logits) tile.resize(n_rows * std::min(vocab_size, kVocabularyTile));
    const int32_t* targets = windows_.targets.data() + first * windows_.n_scored;
    for (uint64_t begin = 0; begin < vocab_size; begin += kVocabularyTile) {
      const uint64_t n = std::min(kVocabularyTile, vocab_size - begin);
      for (size_t i = 0; i < candidates_.size(); ++i) {
        candidates_[i].model->Logits(hidden[i], begin, n, logits[i]);
      }
      tbb::parallel_for(uint64_t{0}, n_rows, [&](uint64_t row) {
        const float* q = logits[0].data() + row * n;
        const float* p = has_reference() ? logits[1].data() + row * n : nullptr;
        AddTile(p, q, begin, n, static_cast<uint64_t>(targets[row]), sums[row]);
      });
    }
  }

  static void AddTile(const float* p, const float* q, uint64_t begin, uint64_t n, uint64_t target,
                      RunningSums& row) {
    if (!AllFinite(q, n) || (p != nullptr && !AllFinite(p, n))) row.finite = false;
    if (!row.finite) return;
    const bool here = target >= begin && target - begin < n;
    if (here) row.target_q = double{q[target - begin]};
    if (p == nullptr) {
      row.sums.q.Add(q, begin, n);
      return;
    }
    if (here) row.target_p = double{p[target - begin]};
    row.sums.Add(p, q, begin, n);
  }

  void CheckFinite(uint64_t first, const std::vector<RunningSums>& sums) const {
    for (size_t row = 0; row < sums.size(); ++row) {
      if (sums[row].finite) continue;
      std::string found = "NaN or infinity";
      if (has_reference()) found += ", in it or in the reference " + Quoted(candidates_[1].name);
      throw DataError("forward.non-finite", "the model's predictions are no numbers")
          .File(candidates_[0].name)
          .Where("window " + std::to_string(first + row / windows_.n_scored) + ", token " +
                 std::to_string(windows_.scored_begin + row % windows_.n_scored))
          .Found(found)
          .Expected("finite logits");
    }
  }

  void Record(const RunningSums& row) {
    predictions_.nll.push_back(row.sums.q.LogTotal() - row.target_q);
    if (!has_reference()) return;
    predictions_.reference_nll.push_back(row.sums.p.LogTotal() - row.target_p);
    predictions_.kld.push_back(row.sums.Kld());
    predictions_.same_top1.push_back(row.sums.p.top == row.sums.q.top ? 1 : 0);
  }

  // A layer of one candidate is done: tells the group's share of windows that this amounts to.
  void Step(uint64_t windows_in_group) {
    ++steps_done_;
    const uint64_t done = windows_in_group * steps_done_ / steps_per_group_;
    if (options_.progress != nullptr && done > windows_told_) {
      options_.progress->Advance(done - windows_told_);
    }
    windows_told_ = std::max(windows_told_, done);
  }

  const TextWindows& windows_;
  const PerplexityOptions& options_;
  std::vector<Candidate> candidates_;  // the model, then the reference
  Predictions predictions_;
  uint64_t steps_per_group_ = 1, steps_done_ = 0, windows_told_ = 0;
};

}  // namespace

Predictions Evaluate(const Candidate& candidate, const Candidate* reference,
                     const TextWindows& windows, const PerplexityOptions& options) {
  return Evaluation(candidate, reference, windows, options).Run();
}

}  // namespace quern
