#include "verify/per_tensor.h"

#include <algorithm>
#include <memory>
#include <string>

#include "formats/core/error.h"
#include "quant/codec.h"
#include "verify/evaluate.h"
#include "verify/statistics.h"
#include "verify/vocabulary.h"

namespace quern {
namespace {

// A tensor of the model in the reference's place.
struct Swap {
  size_t reference_tensor, model_tensor;
  std::vector<double> kld, ln_ratio;  // per window
};

// The reference with one tensor taken from the model.
class SwappedStore final : public TensorStore {
 public:
  SwappedStore(const TensorStore& reference, const TensorStore& model, const Swap& swap)
      : reference_(reference), model_(model), swap_(swap), manifest_(reference.manifest()) {
    manifest_.tensors[swap.reference_tensor].dtype =
        model.manifest().tensors[swap.model_tensor].dtype;
  }
  const Manifest& manifest() const override { return manifest_; }
  const std::string& name() const override { return model_.name(); }
  void ReadRows(size_t tensor, uint64_t begin, uint64_t count, MutableByteView out) const override {
    if (tensor == swap_.reference_tensor) {
      model_.ReadRows(swap_.model_tensor, begin, count, out);
    } else {
      reference_.ReadRows(tensor, begin, count, out);
    }
  }

 private:
  const TensorStore& reference_;
  const TensorStore& model_;
  const Swap& swap_;
  Manifest manifest_;
};

// True if both tensors, of the same shape, decode to the same values (a norm in bf16 and in f32,
// say).
bool SameValues(const TensorStore& a, size_t a_tensor, const TensorStore& b, size_t b_tensor) {
  constexpr uint64_t kBandElems = uint64_t{1} << 20;
  const uint64_t rows = a.manifest().tensors[a_tensor].rows();
  const uint64_t cols = a.manifest().tensors[a_tensor].cols();
  const uint64_t band_rows = std::max<uint64_t>(1, kBandElems / cols);
  std::vector<uint8_t> stored;
  const auto decode = [&](const TensorStore& store, size_t tensor, uint64_t row, uint64_t count) {
    const TensorInfo& info = store.manifest().tensors[tensor];
    stored.resize(count * info.row_bytes());
    store.ReadRows(tensor, row, count, stored);
    std::vector<float> values(count * cols);
    FindCodec(info.dtype)->decode(stored.data(), values.size(), values.data());
    return values;
  };
  for (uint64_t row = 0; row < rows; row += band_rows) {
    const uint64_t count = std::min(band_rows, rows - row);
    if (decode(a, a_tensor, row, count) != decode(b, b_tensor, row, count)) return false;
  }
  return true;
}

std::vector<Swap> FindSwaps(const TensorStore& model, const TensorStore& reference) {
  const std::vector<TensorInfo>& tensors = reference.manifest().tensors;
  const std::vector<TensorInfo>& others = model.manifest().tensors;
  std::vector<Swap> swaps;
  for (size_t i = 0; i < tensors.size(); ++i) {
    // What no step of the forward pass reads has no effect.
    const bool read = tensors[i].role != TensorRole::kOther &&
                      tensors[i].layer.value_or(0) < reference.manifest().spec->n_layers;
    if (!read) continue;
    const auto other = std::ranges::find(others, tensors[i].name, &TensorInfo::name);
    if (other == others.end() || other->shape != tensors[i].shape) continue;
    const auto j = static_cast<size_t>(other - others.begin());
    if (SameValues(reference, i, model, j)) continue;
    swaps.push_back({i, j, {}, {}});
  }
  return swaps;
}

}  // namespace

// All windows for all swaps. A group of windows visits the stages of the forward pass in turn; the
// reference's residual stream stands where the stage begins.
class PerTensor::Run {
 public:
  Run(const TensorStore& model, const TensorStore& reference, TextWindows windows,
      const PerplexityOptions& options)
      : model_store_(model),
        reference_store_(reference),
        windows_(std::move(windows)),
        options_(options),
        forward_(SharedWorkspaces(options)),
        opened_reference_(OpenLanguageModel(reference, forward_)),
        reference_{opened_reference_.get(), reference.name()},
        n_layers_(reference_.model->spec().n_layers) {
    OpenLanguageModel(model, forward_);  // Refuses what could not be decoded.
    swaps_ = FindSwaps(model, reference);
    for (Swap& swap : swaps_) StageOf(swap).push_back(&swap);
    for (const auto& stage : stages_) most_swaps_ = std::max(most_swaps_, stage.size());
    group_ = GroupThatFits(model.name(), options.memory_bytes, windows_.context, windows_.n_windows,
                           [&](const WindowGroup& g) { return WindowBytes(g); });
  }

  PerTensorReport Measure() {
    if (!swaps_.empty()) RunAll();
    PerTensorReport report = {.windows = windows_.n_windows, .effects = {}};
    for (const Swap& swap : swaps_) {
      const TensorInfo& tensor = model_store_.manifest().tensors[swap.model_tensor];
      report.effects.push_back(
          {.name = tensor.name,
           .reference_type = reference_store_.manifest().tensors[swap.reference_tensor].dtype,
           .model_type = tensor.dtype,
           .model_bytes = tensor.size_bytes(),
           .mean_kld = EstimateOverWindows(swap.kld, 1),
           .ln_perplexity_ratio = EstimateOverWindows(swap.ln_ratio, 1)});
    }
    std::ranges::stable_sort(report.effects, std::greater<>(),
                             [](const TensorEffect& effect) { return effect.mean_kld.value; });
    return report;
  }

 private:
  void RunAll() {
    if (options_.progress != nullptr) {
      const uint64_t n_groups = (windows_.n_windows + group_.windows - 1) / group_.windows;
      options_.progress->Begin("per tensor", n_groups * swaps_.size(), "tensors");
    }
    RunInArena(options_.threads, options_.memory_bytes,
               reference_.model->WorkspaceBytes(windows_.context), [&] {
                 for (uint64_t first = 0; first < windows_.n_windows; first += group_.windows) {
                   RunGroup(first, std::min(group_.windows, windows_.n_windows - first));
                 }
               });
    if (options_.progress != nullptr) options_.progress->End();
  }

  // Stage 0 is the embedding, 1 + l is layer l, the last one what comes behind the layers. Rotary
  // divisors act in every layer.
  std::vector<Swap*>& StageOf(const Swap& swap) {
    stages_.resize(n_layers_ + 2);
    const TensorInfo& tensor = reference_store_.manifest().tensors[swap.reference_tensor];
    if (tensor.layer) return stages_[1 + *tensor.layer];
    const bool behind =
        tensor.role == TensorRole::kOutput || tensor.role == TensorRole::kOutputNorm;
    return stages_[behind ? n_layers_ + 1 : 0];
  }

  // The reference's residual stream beside what a forward pass needs; what layers leave of the
  // reference and of the swaps of a stage.
  uint64_t WindowBytes(const WindowGroup& group) const {
    const LanguageModel& model = *reference_.model;
    const uint64_t row_bytes = model.spec().d_model * sizeof(float);
    const uint64_t swept = group.RowsAtATime(windows_.n_scored);
    const bool in_memory = group.place == RowPlace::kMemory;
    return model.ActivationBytes(1, windows_.context, group.part_rows, group.place) +
           (in_memory ? windows_.context * row_bytes : 0) +
           (in_memory ? windows_.n_scored : swept) * (most_swaps_ + 1) * row_bytes +
           swept * SweepBytes(most_swaps_, true);
  }

  void RunGroup(uint64_t first, uint64_t count) {
    const WindowBatch batch = {
        .tokens =
            std::span(windows_.inputs).subspan(first * windows_.context, count * windows_.context),
        .n_windows = count,
        .context = windows_.context,
        .scored_begin = windows_.scored_begin,
        .n_scored = windows_.n_scored,
        .part_rows = group_.part_rows,
        .place = group_.place};
    RowStore hidden = StreamOf(batch);
    reference_.model->Forward(batch, hidden);
    RowStore x = StreamOf(batch);
    for (uint32_t stage = 0; stage < stages_.size(); ++stage) {
      RunStage(batch, stage, first, x, hidden);
      if (stage == 0) {
        reference_.model->Embed(batch, x);
      } else if (stage <= n_layers_) {
        reference_.model->RunLayers(batch, stage - 1, stage, x);
      }
    }
  }

  RowStore StreamOf(const WindowBatch& batch) const {
    return RowStore(batch.n_windows * batch.context, reference_.model->spec().d_model, batch.place);
  }

  // `x` is the reference's residual stream before the stage, `hidden` what all of it leaves.
  void RunStage(const WindowBatch& batch, uint32_t stage, uint64_t first, const RowStore& x,
                const RowStore& hidden) {
    if (stages_[stage].empty()) return;
    std::vector<std::unique_ptr<SwappedStore>> stores;
    std::vector<std::unique_ptr<LanguageModel>> models;
    std::vector<Candidate> candidates;
    std::vector<RowStore> all_hidden;
    for (const Swap* swap : stages_[stage]) {
      stores.push_back(std::make_unique<SwappedStore>(reference_store_, model_store_, *swap));
      models.push_back(OpenLanguageModel(*stores.back(), forward_));
      candidates.push_back({models.back().get(), model_store_.name()});
      const LanguageModel& model = *models.back();
      RowStore& mine = all_hidden.emplace_back(StreamOf(batch));
      if (stage == 0) {
        model.Embed(batch, mine);
      } else {
        mine.CopyFrom(x);
      }
      const uint32_t begin = stage == 0 ? 0 : stage - 1;
      if (begin < n_layers_) model.RunLayers(batch, begin, n_layers_, mine);
      model.Finish(batch, mine);
      mine.Truncate(hidden.n_rows());
      if (options_.progress != nullptr) options_.progress->Advance(1);
    }
    std::vector<SweepInput> inputs;
    for (size_t i = 0; i < candidates.size(); ++i) {
      inputs.push_back({&candidates[i], &all_hidden[i]});
    }
    const SweepInput reference = {&reference_, &hidden};
    std::vector<Predictions> predictions(inputs.size());
    SweepVocabulary(inputs, {.model = &reference}, windows_, first, batch.n_windows,
                    group_.RowsAtATime(hidden.n_rows()), predictions);
    for (size_t i = 0; i < predictions.size(); ++i) Record(predictions[i], *stages_[stage][i]);
  }

  void Record(const Predictions& predictions, Swap& swap) const {
    const std::vector<double> kld = WindowMeans(predictions.kld, windows_.n_scored);
    const std::vector<double> nll = WindowMeans(predictions.nll, windows_.n_scored);
    const std::vector<double> base = WindowMeans(predictions.reference_nll, windows_.n_scored);
    swap.kld.insert(swap.kld.end(), kld.begin(), kld.end());
    for (size_t w = 0; w < nll.size(); ++w) swap.ln_ratio.push_back(nll[w] - base[w]);
  }

  const TensorStore& model_store_;
  const TensorStore& reference_store_;
  TextWindows windows_;
  PerplexityOptions options_;
  std::vector<Swap> swaps_;
  ForwardOptions forward_;
  std::unique_ptr<LanguageModel> opened_reference_;
  Candidate reference_;
  uint32_t n_layers_;
  std::vector<std::vector<Swap*>> stages_;
  uint64_t most_swaps_ = 0;
  WindowGroup group_;
};

PerTensor::PerTensor(const TensorStore& model, const TensorStore& reference, std::string_view text,
                     const PerplexityOptions& options) {
  TextWindows windows = CutText(reference, text, options);
  CheckSameVocabulary(model, reference, windows, text, options);
  run_ = std::make_unique<Run>(model, reference, std::move(windows), options);
}

PerTensor::~PerTensor() = default;

PerTensorReport PerTensor::Measure() { return run_->Measure(); }

}  // namespace quern
