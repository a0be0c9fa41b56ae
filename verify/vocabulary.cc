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

void CheckFinite(const Candidate& model, const Candidate* reference, const TextWindows& windows,
                 uint64_t first, std::span<const RunningSums> sums) {
  for (size_t row = 0; row < sums.size(); ++row) {
    if (sums[row].finite) continue;
    std::string found = "NaN or infinity";
    if (reference != nullptr) {
      found += ", in it or in the reference " + Quoted(reference->name);
    }
    throw DataError("forward.non-finite", "the model's predictions are no numbers")
        .File(model.name)
        .Where("window " + std::to_string(windows.places[first + row / windows.n_scored]) +
               ", token " + std::to_string(windows.scored_begin + row % windows.n_scored))
        .Found(found)
        .Expected("finite logits");
  }
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

}  // namespace

void SweepVocabulary(std::span<const SweepInput> models, const SweepInput* reference,
                     const TextWindows& windows, uint64_t first, uint64_t count,
                     std::span<Predictions> predictions) {
  const uint64_t vocab_size = models[0].candidate->model->spec().vocab_size;
  const uint64_t n_rows = count * windows.n_scored;
  const uint64_t tile = std::min(vocab_size, kVocabularyTile);
  std::vector<float> q(n_rows * tile), p(reference != nullptr ? n_rows * tile : 0);
  std::vector<std::vector<RunningSums>> sums(models.size(), std::vector<RunningSums>(n_rows));
  const int32_t* targets = windows.targets.data() + first * windows.n_scored;
  for (uint64_t begin = 0; begin < vocab_size; begin += kVocabularyTile) {
    const uint64_t n = std::min(kVocabularyTile, vocab_size - begin);
    if (reference != nullptr) reference->candidate->model->Logits(reference->hidden, begin, n, p);
    for (size_t i = 0; i < models.size(); ++i) {
      models[i].candidate->model->Logits(models[i].hidden, begin, n, q);
      tbb::parallel_for(uint64_t{0}, n_rows, [&](uint64_t row) {
        AddTile(reference != nullptr ? p.data() + row * n : nullptr, q.data() + row * n, begin, n,
                static_cast<uint64_t>(targets[row]), sums[i][row]);
      });
    }
  }
  for (size_t i = 0; i < models.size(); ++i) {
    CheckFinite(*models[i].candidate, reference != nullptr ? reference->candidate : nullptr,
                windows, first, sums[i]);
    for (uint64_t row = 0; row < n_rows; ++row) {
      Record(sums[i][row], reference != nullptr, static_cast<uint64_t>(targets[row]),
             predictions[i]);
    }
  }
}

uint64_t SweepBytes(uint64_t n_models, bool has_reference) {
  return n_models * sizeof(RunningSums) + (has_reference ? 2 : 1) * kVocabularyTile * sizeof(float);
}

}  // namespace quern
