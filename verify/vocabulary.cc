#include "verify/vocabulary.h"

#include <fmt/format.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <variant>

#include "formats/core/error.h"
#include "quant/codec.h"
#include "verify/ops.h"

namespace quern {
namespace {

// Entries of the vocabulary whose logits exist at a time.
constexpr uint64_t kVocabularyTile = 1024;

// What is kept per prediction while the vocabulary goes by.
struct RunningSums {
  // Without a reference; beside another model; beside a file.
  std::variant<LogitSums, DivergenceSums, GivenSums> sums;
  double target_p = 0, target_q = 0;  // the target's logits, in a file its log-probability
  bool finite = true;
};

RunningSums SumsFor(const SweepReference& reference) {
  // Of what is less likely a file has nothing but that.
  if (reference.logits != nullptr) return {.sums = GivenSums(double{-kLogitsRange})};
  if (reference.model != nullptr) return {.sums = DivergenceSums()};
  return {.sums = LogitSums()};
}

void AddTile(const float* p, const float* q, uint64_t begin, uint64_t n, uint64_t target,
             RunningSums& row) {
  if (!AllFinite(q, n) || (p != nullptr && !AllFinite(p, n))) row.finite = false;
  if (!row.finite) return;
  if (target >= begin && target - begin < n) {
    row.target_q = double{q[target - begin]};
    if (p != nullptr) row.target_p = double{p[target - begin]};
  }
  if (auto* alone = std::get_if<LogitSums>(&row.sums)) {
    alone->Add(q, begin, n);
  } else if (auto* pair = std::get_if<DivergenceSums>(&row.sums)) {
    pair->Add(p, q, begin, n);
  } else {
    std::get<GivenSums>(row.sums).Add(p, q, begin, n);
  }
}

void Record(const RunningSums& row, uint64_t target, Predictions& predictions) {
  const auto record = [&](const LogitSums& q) {
    predictions.nll.push_back(q.LogTotal() - row.target_q);
  };
  const auto record_pair = [&](const LogitSums& q, double log_p, double kld, uint64_t p_top) {
    record(q);
    predictions.reference_nll.push_back(-log_p);
    predictions.kld.push_back(kld);
    const int top1 = (p_top == q.top ? kSameTop1 : 0) | (p_top == target ? kReferenceRight : 0) |
                     (q.top == target ? kModelRight : 0);
    predictions.top1.push_back(static_cast<uint8_t>(top1));
  };
  if (const auto* alone = std::get_if<LogitSums>(&row.sums)) {
    record(*alone);
  } else if (const auto* pair = std::get_if<DivergenceSums>(&row.sums)) {
    record_pair(pair->q, row.target_p - pair->p.LogTotal(), pair->Kld(), pair->p.top);
  } else {
    const auto& given = std::get<GivenSums>(row.sums);
    record_pair(given.q, row.target_p, given.Kld(), given.top);
  }
}

// One pass of the vocabulary over the scored positions [begin, begin + count) of a group of
// windows.
class Sweep {
 public:
  Sweep(std::span<const SweepInput> models, const SweepReference& reference,
        const TextWindows& windows, uint64_t first_window, uint64_t begin, uint64_t count)
      : models_(models),
        reference_(reference),
        windows_(windows),
        vocab_size_(models[0].candidate->model->spec().vocab_size),
        first_row_(first_window * windows.n_scored + begin),
        n_rows_(count),
        sums_(models.size(), std::vector<RunningSums>(count, SumsFor(reference))) {
    buffers_.resize(models.size() + 1);
    for (size_t i = 0; i < models.size(); ++i) hidden_.push_back(Hidden(models[i], begin, i));
    if (reference.model != nullptr) {
      reference_hidden_ = Hidden(*reference.model, begin, models.size());
    }
    if (reference.logits != nullptr) {
      for (uint64_t row = 0; row < n_rows_; ++row) {
        scalings_.push_back(reference.logits->ReadRow(WindowOf(row), RowInWindow(row)));
      }
    }
  }

  // Where `rows` is not empty, it gets the first model's logits. Shape: rows [n_rows, vocab_size].
  void Run(std::span<float> rows) {
    const uint64_t tile = std::min(vocab_size_, kVocabularyTile);
    std::vector<float> q(n_rows_ * tile), p(reference_.exists() ? n_rows_ * tile : 0);
    for (uint64_t begin = 0; begin < vocab_size_; begin += kVocabularyTile) {
      const uint64_t n = std::min(kVocabularyTile, vocab_size_ - begin);
      ReadReference(begin, n, p);
      for (size_t i = 0; i < models_.size(); ++i) {
        models_[i].candidate->model->Logits(hidden_[i], begin, n, q);
        tbb::parallel_for(uint64_t{0}, n_rows_, [&](uint64_t row) {
          const float* row_q = q.data() + row * n;
          AddTile(reference_.exists() ? p.data() + row * n : nullptr, row_q, begin, n, Target(row),
                  sums_[i][row]);
          if (i == 0 && !rows.empty()) {
            std::copy_n(row_q, n, rows.data() + row * vocab_size_ + begin);
          }
        });
      }
    }
  }

  // Throws: Error kData "forward.non-finite" or "logits.row".
  void Append(std::span<Predictions> predictions) const {
    for (size_t i = 0; i < models_.size(); ++i) {
      for (uint64_t row = 0; row < n_rows_; ++row) {
        if (!sums_[i][row].finite) ThrowNonFinite(i, row);
        if (reference_.logits != nullptr) CheckMass(row, std::get<GivenSums>(sums_[i][row].sums));
        Record(sums_[i][row], Target(row), predictions[i]);
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
  uint64_t WindowOf(uint64_t row) const {
    return windows_.places[(first_row_ + row) / windows_.n_scored];
  }
  uint64_t RowInWindow(uint64_t row) const { return (first_row_ + row) % windows_.n_scored; }
  std::string PlaceOf(uint64_t row) const {
    return "window " + std::to_string(WindowOf(row)) + ", token " +
           std::to_string(windows_.scored_begin + RowInWindow(row));
  }

  // Shape: p [n_rows, n].
  void ReadReference(uint64_t begin, uint64_t n, std::span<float> p) const {
    if (reference_.model != nullptr) {
      reference_.model->candidate->model->Logits(reference_hidden_, begin, n, p);
    } else if (reference_.logits != nullptr) {
      tbb::parallel_for(uint64_t{0}, n_rows_, [&](uint64_t row) {
        reference_.logits->ReadLogP(WindowOf(row), RowInWindow(row), scalings_[row], begin,
                                    p.subspan(row * n, n));
      });
    }
  }

  [[noreturn]] void ThrowNonFinite(size_t model, uint64_t row) const {
    std::string found = "NaN or infinity";
    if (reference_.model != nullptr) {
      found += ", in it or in the reference " + Quoted(reference_.model->candidate->name);
    }
    throw DataError("forward.non-finite", "the model's predictions are no numbers")
        .File(models_[model].candidate->name)
        .Where(PlaceOf(row))
        .Found(found)
        .Expected("finite logits");
  }

  void CheckMass(uint64_t row, const GivenSums& sums) const {
    // All entries that are left out have at most so much together.
    const double left_out =
        static_cast<double>(vocab_size_) * std::exp(-double{kLogitsRange});
    if (sums.mass <= 1 + kLogitsRounding && sums.mass >= 1 - left_out - kLogitsRounding) return;
    throw DataError("logits.row", "a row's probabilities do not add up to 1")
        .File(Escaped(reference_.logits->name(), 4096))
        .Where(PlaceOf(row))
        .Found(fmt::format("{:.6g}", sums.mass))
        .Hint("the file is damaged: make it anew");
  }

  std::span<const SweepInput> models_;
  SweepReference reference_;
  const TextWindows& windows_;
  uint64_t vocab_size_, first_row_, n_rows_;
  std::vector<std::vector<float>> buffers_;  // what of `hidden` is not in memory
  std::vector<std::span<const float>> hidden_;
  std::span<const float> reference_hidden_;
  std::vector<LogitsFile::Row> scalings_;       // of the file's rows
  std::vector<std::vector<RunningSums>> sums_;  // per model and row
};

// Encodes rows of logits. Shape: rows [n, vocab_size].
void SaveRows(std::span<const float> rows, uint64_t vocab_size, LogitsWriter& save) {
  const LogitsLayout layout = {.context = 0, .vocab_size = vocab_size, .n_windows = 0};
  const uint64_t n_rows = rows.size() / vocab_size;
  std::vector<uint8_t> bytes(n_rows * layout.row_bytes());
  tbb::parallel_for(uint64_t{0}, n_rows, [&](uint64_t row) {
    LogitsWriter::EncodeRow(
        rows.subspan(row * vocab_size, vocab_size),
        MutableByteView(bytes).subspan(row * layout.row_bytes(), layout.row_bytes()));
  });
  save.Put(bytes);
}

}  // namespace

void SweepVocabulary(std::span<const SweepInput> models, const SweepReference& reference,
                     const TextWindows& windows, uint64_t first, uint64_t count,
                     uint64_t rows_at_a_time, std::span<Predictions> predictions,
                     LogitsWriter* save) {
  const uint64_t n_rows = count * windows.n_scored;
  const uint64_t vocab_size = models[0].candidate->model->spec().vocab_size;
  std::vector<float> rows;
  for (uint64_t begin = 0; begin < n_rows; begin += rows_at_a_time) {
    const uint64_t n = std::min(rows_at_a_time, n_rows - begin);
    if (save != nullptr) rows.resize(n * vocab_size);
    Sweep sweep(models, reference, windows, first, begin, n);
    sweep.Run(rows);
    sweep.Append(predictions);
    if (save != nullptr) SaveRows(rows, vocab_size, *save);
  }
}

uint64_t SweepBytes(uint64_t n_models, bool has_reference) {
  return n_models * sizeof(RunningSums) + (has_reference ? 2 : 1) * kVocabularyTile * sizeof(float);
}

uint64_t SaveBytes(uint64_t vocab_size) {
  return vocab_size * sizeof(float) +
         LogitsLayout{.context = 0, .vocab_size = vocab_size, .n_windows = 0}.row_bytes();
}

}  // namespace quern
