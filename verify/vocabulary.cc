#include "verify/vocabulary.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <string>

#include "formats/core/error.h"
#include "quant/codec.h"
#include "verify/ops.h"

namespace quern {
namespace {

// Entries of the vocabulary whose logits exist at a time.
constexpr uint64_t kVocabularyTile = 1024;

// What is kept per prediction while the vocabulary goes by. Without a reference only the
// candidate's half (q) is used.
struct RunningSums {
  DivergenceSums sums;
  double target_p = 0, target_q = 0;  // the target's logits
  bool finite = true;
};

void AddTile(const float* p, const float* q, uint64_t begin, uint64_t n, uint64_t target,
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

void Record(const RunningSums& row, bool has_reference, uint64_t target, Predictions& predictions) {
  const DivergenceSums& sums = row.sums;
  predictions.nll.push_back(sums.q.LogTotal() - row.target_q);
  if (!has_reference) return;
  predictions.reference_nll.push_back(sums.p.LogTotal() - row.target_p);
  predictions.kld.push_back(sums.Kld());
  const int top1 = (sums.p.top == sums.q.top ? kSameTop1 : 0) |
                   (sums.p.top == target ? kReferenceRight : 0) |
                   (sums.q.top == target ? kModelRight : 0);
  predictions.top1.push_back(static_cast<uint8_t>(top1));
}

// One pass of the vocabulary over the scored positions [begin, begin + count) of a group of
// windows.
class Sweep {
 public:
  Sweep(std::span<const SweepInput> models, const SweepInput* reference, const TextWindows& windows,
        uint64_t first_window, uint64_t begin, uint64_t count)
      : models_(models),
        reference_(reference),
        windows_(windows),
        first_row_(first_window * windows.n_scored + begin),
        n_rows_(count),
        sums_(models.size(), std::vector<RunningSums>(count)) {
    buffers_.resize(models.size() + 1);
    for (size_t i = 0; i < models.size(); ++i) hidden_.push_back(Hidden(models[i], begin, i));
    if (reference != nullptr) reference_hidden_ = Hidden(*reference, begin, models.size());
  }

  void Run() {
    const uint64_t vocab_size = models_[0].candidate->model->spec().vocab_size;
    const uint64_t tile = std::min(vocab_size, kVocabularyTile);
    std::vector<float> q(n_rows_ * tile), p(reference_ != nullptr ? n_rows_ * tile : 0);
    for (uint64_t begin = 0; begin < vocab_size; begin += kVocabularyTile) {
      const uint64_t n = std::min(kVocabularyTile, vocab_size - begin);
      if (reference_ != nullptr) {
        reference_->candidate->model->Logits(reference_hidden_, begin, n, p);
      }
      for (size_t i = 0; i < models_.size(); ++i) {
        models_[i].candidate->model->Logits(hidden_[i], begin, n, q);
        tbb::parallel_for(uint64_t{0}, n_rows_, [&](uint64_t row) {
          AddTile(reference_ != nullptr ? p.data() + row * n : nullptr, q.data() + row * n, begin,
                  n, Target(row), sums_[i][row]);
        });
      }
    }
  }

  // Throws: Error kData "forward.non-finite".
  void Append(std::span<Predictions> predictions) const {
    for (size_t i = 0; i < models_.size(); ++i) {
      CheckFinite(i);
      for (uint64_t row = 0; row < n_rows_; ++row) {
        Record(sums_[i][row], reference_ != nullptr, Target(row), predictions[i]);
      }
    }
  }

 private:
  std::span<const float> Hidden(const SweepInput& input, uint64_t begin, size_t i) {
    return {input.hidden->Get(begin, n_rows_, buffers_[i]), n_rows_ * input.hidden->cols()};
  }
  uint64_t Target(uint64_t row) const {
    return static_cast<uint64_t>(windows_.targets[first_row_ + row]);
  }

  void CheckFinite(size_t model) const {
    for (size_t row = 0; row < n_rows_; ++row) {
      if (sums_[model][row].finite) continue;
      std::string found = "NaN or infinity";
      if (reference_ != nullptr) {
        found += ", in it or in the reference " + Quoted(reference_->candidate->name);
      }
      const uint64_t at = first_row_ + row;
      throw DataError("forward.non-finite", "the model's predictions are no numbers")
          .File(models_[model].candidate->name)
          .Where("window " + std::to_string(windows_.places[at / windows_.n_scored]) + ", token " +
                 std::to_string(windows_.scored_begin + at % windows_.n_scored))
          .Found(found)
          .Expected("finite logits");
    }
  }

  std::span<const SweepInput> models_;
  const SweepInput* reference_;
  const TextWindows& windows_;
  uint64_t first_row_, n_rows_;
  std::vector<std::vector<float>> buffers_;  // what of `hidden` is not in memory
  std::vector<std::span<const float>> hidden_;
  std::span<const float> reference_hidden_;
  std::vector<std::vector<RunningSums>> sums_;  // per model and row
};

}  // namespace

void SweepVocabulary(std::span<const SweepInput> models, const SweepInput* reference,
                     const TextWindows& windows, uint64_t first, uint64_t count,
                     uint64_t rows_at_a_time, std::span<Predictions> predictions) {
  const uint64_t n_rows = count * windows.n_scored;
  for (uint64_t begin = 0; begin < n_rows; begin += rows_at_a_time) {
    Sweep sweep(models, reference, windows, first, begin, std::min(rows_at_a_time, n_rows - begin));
    sweep.Run();
    sweep.Append(predictions);
  }
}

uint64_t SweepBytes(uint64_t n_models, bool has_reference) {
  return n_models * sizeof(RunningSums) + (has_reference ? 2 : 1) * kVocabularyTile * sizeof(float);
}

}  // namespace quern
