#include "verify/imatrix_collect.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "formats/core/error.h"
#include "verify/evaluate.h"

namespace quern {
namespace {

// Tokens that go through the layers together: enough that reading and decoding weights costs
// little, few enough that stopping loses little.
constexpr uint64_t kGroupTokens = 4096;
// Columns that one task adds up.
constexpr uint64_t kTaskCols = 64;

// Sums of squares of one matrix' inputs.
struct InputSums {
  std::vector<double> squares;  // per column
  uint64_t rows = 0;
};
using SumsByTensor = std::map<size_t, InputSums>;

// Adds row by row, whatever the number of threads: the same bits.
void AddSquares(const MatrixInput& input, InputSums& sums) {
  sums.squares.resize(input.cols);
  sums.rows += input.rows;
  const uint64_t n_tasks = (input.cols + kTaskCols - 1) / kTaskCols;
  tbb::parallel_for(uint64_t{0}, n_tasks, [&](uint64_t task) {
    const uint64_t begin = task * kTaskCols;
    const uint64_t end = std::min(begin + kTaskCols, input.cols);
    double* squares = sums.squares.data();
    for (uint64_t row = 0; row < input.rows; ++row) {
      const float* x = input.x + row * input.cols;
      for (uint64_t c = begin; c < end; ++c) squares[c] += double{x[c]} * double{x[c]};
    }
  });
}

// Thrown through the forward pass where options.stop says so; never leaves this file.
struct Stopped {};

class Collection {
 public:
  Collection(const TensorStore& model, const ImatrixOptions& options)
      : store_(model), options_(options), model_(OpenLanguageModel(model, options.forward)) {}

  CollectedImatrix Run(std::span<const CalibrationText> texts) {
    std::vector<TextWindows> cuts = Cut(texts);
    CollectedImatrix result;
    for (const TextWindows& windows : cuts) result.text_windows += windows.n_windows;
    if (options_.progress != nullptr) {
      options_.progress->Begin("imatrix", result.text_windows, "windows");
    }
    const uint64_t context = cuts.front().context;
    const WindowGroup group =
        GroupThatFits(store_.name(), options_.memory_bytes, context,
                      std::max<uint64_t>(1, kGroupTokens / context), [&](const WindowGroup& g) {
                        return model_->ActivationBytes(1, context, g.part_rows, g.place);
                      });
    size_t n_evaluated = 0;  // texts with a window that counts
    try {
      for (size_t i = 0; i < cuts.size(); ++i) {
        const TextWindows& windows = cuts[i];
        for (uint64_t first = 0; first < windows.n_windows; first += group.windows) {
          const uint64_t count = std::min(group.windows, windows.n_windows - first);
          const SumsByTensor before = sums_;
          try {
            RunInArena(options_.threads, options_.memory_bytes, model_->WorkspaceBytes(context),
                       [&] { RunGroup(windows, first, count, group); });
          } catch (const Stopped&) {
            sums_ = before;
            throw;
          }
          n_evaluated = i + 1;
          result.windows += count;
          if (options_.progress != nullptr) options_.progress->Advance(count);
        }
      }
    } catch (const Stopped&) {
    }
    if (options_.progress != nullptr) options_.progress->End();
    result.imatrix = ToImatrix(texts.first(n_evaluated), context, result.windows);
    return result;
  }

 private:
  std::vector<TextWindows> Cut(std::span<const CalibrationText> texts) const {
    std::vector<TextWindows> cuts;
    uint64_t left = options_.chunks == 0 ? UINT64_MAX : options_.chunks;
    for (const CalibrationText& text : texts) {
      if (left == 0) break;
      PerplexityOptions cut;
      cut.context = options_.context;
      cut.chunks = left == UINT64_MAX ? 0 : left;
      try {
        cuts.push_back(CutText(store_, text.text, cut));
      } catch (Error& error) {
        if (!error.has_file()) error.File(text.name);
        throw;
      }
      if (left != UINT64_MAX) left -= cuts.back().n_windows;
    }
    return cuts;
  }

  void RunGroup(const TextWindows& windows, uint64_t first, uint64_t count,
                const WindowGroup& group) {
    RowStore x(count * windows.context, model_->spec().d_model, group.place);
    const auto check_stop = [&] {
      if (options_.stop && options_.stop()) throw Stopped();
    };
    check_stop();
    model_->Forward(
        {.tokens =
             std::span(windows.inputs).subspan(first * windows.context, count * windows.context),
         .n_windows = count,
         .context = windows.context,
         .scored_begin = 0,
         .n_scored = windows.context,
         .part_rows = group.part_rows,
         .place = group.place,
         .layer_done = check_stop,
         .input = [&](const MatrixInput& input) { Add(input); }},
        x);
  }

  void Add(const MatrixInput& input) {
    const TensorInfo& tensor = store_.manifest().tensors[input.tensor];
    // Tied to the embedding, the vocabulary's matrix is looked up as often as it is multiplied.
    if (tensor.role == TensorRole::kTokenEmbedding) return;
    if (tensor.role == TensorRole::kOutput && !options_.output_matrix) return;
    AddSquares(input, sums_[input.tensor]);
  }

  Imatrix ToImatrix(std::span<const CalibrationText> texts, uint64_t context,
                    uint64_t windows) const {
    Imatrix imatrix;
    imatrix.is_gguf = true;
    imatrix.n_chunks = static_cast<uint32_t>(std::min<uint64_t>(windows, UINT32_MAX));
    imatrix.chunk_size = static_cast<uint32_t>(context);
    for (const CalibrationText& text : texts) imatrix.datasets.push_back(text.name);
    for (const auto& [tensor, sums] : sums_) {
      ImatrixEntry entry;
      entry.name = store_.manifest().tensors[tensor].name;
      entry.count = sums.rows;
      entry.matrix_counts = {static_cast<float>(sums.rows)};
      entry.all_zero = true;
      for (size_t c = 0; c < sums.squares.size(); ++c) {
        const auto mean = static_cast<float>(sums.squares[c] / static_cast<double>(sums.rows));
        if (!std::isfinite(mean)) {
          throw DataError("forward.non-finite", "the input of a matrix is no finite number")
              .File(store_.name())
              .Tensor(entry.name, "column " + std::to_string(c))
              .Found("NaN or infinity")
              .Expected("finite activations");
        }
        entry.values.push_back(mean);
        if (mean != 0) entry.all_zero = false;
      }
      imatrix.entries.push_back(std::move(entry));
    }
    std::ranges::sort(imatrix.entries, {}, &ImatrixEntry::name);
    return imatrix;
  }

  const TensorStore& store_;
  const ImatrixOptions& options_;
  std::unique_ptr<LanguageModel> model_;
  SumsByTensor sums_;
};

}  // namespace

CollectedImatrix CollectImatrix(const TensorStore& model, std::span<const CalibrationText> texts,
                                const ImatrixOptions& options) {
  return Collection(model, options).Run(texts);
}

}  // namespace quern
