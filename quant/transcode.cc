#include "quant/transcode.h"

#include <fmt/format.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_pipeline.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "formats/core/buffer_pool.h"
#include "formats/core/check.h"
#include "formats/core/error.h"

namespace quern {
namespace {

// Rows are decoded and encoded in pieces of about this many floats, so that they stay in cache.
constexpr uint64_t kPieceElems = uint64_t{1} << 14;

// How one tensor is turned into another type.
struct Recipe {
  const TensorInfo* tensor = nullptr;
  const BlockCodec* from = nullptr;  // null: the bytes are copied as they are
  const BlockCodec* to = nullptr;
  const float* importance = nullptr;  // of the columns, or null
  uint64_t row_bytes = 0, out_row_bytes = 0;

  bool copies() const { return to == nullptr; }
  // Plain numbers are looked at even where they are only copied.
  bool checks() const { return from != nullptr; }
  uint64_t piece_rows() const {
    return std::max<uint64_t>(1, kPieceElems / std::max<uint64_t>(1, tensor->cols()));
  }
};

std::vector<Recipe> MakeRecipes(const Manifest& manifest, const QuantPlan& plan) {
  QUERN_CHECK(plan.entries.size() == manifest.tensors.size());
  std::vector<Recipe> recipes(manifest.tensors.size());
  for (size_t i = 0; i < recipes.size(); ++i) {
    Recipe& recipe = recipes[i];
    const TensorInfo& tensor = manifest.tensors[i];
    const DType target = plan.entries[i].type;
    recipe.tensor = &tensor;
    recipe.row_bytes = tensor.row_bytes();
    const auto out_row_bytes = RowBytes(target, tensor.cols());
    QUERN_CHECK(out_row_bytes.has_value());
    recipe.out_row_bytes = *out_row_bytes;
    if (tensor.dtype != target) {
      recipe.from = FindCodec(tensor.dtype);
      recipe.to = FindCodec(target);
      QUERN_CHECK(recipe.from != nullptr && recipe.to != nullptr);
      if (plan.importance != nullptr && !IsFloat(target)) {
        const std::vector<float>* weights = ImportanceOf(*plan.importance, tensor);
        if (weights != nullptr) recipe.importance = weights->data();
      }
    } else if (IsFloat(tensor.dtype)) {
      recipe.from = FindCodec(tensor.dtype);
    }
  }
  return recipes;
}

// The buffers of one band on its way through the pipeline.
struct BufferSizes {
  uint64_t source = 0, out = 0, scratch = 0;
  uint64_t total() const { return source + out + scratch; }
};

// Returns the buffers that bands of `band_bytes` of source need, at least one row of any tensor.
BufferSizes SizesFor(const std::vector<Recipe>& recipes, uint64_t band_bytes) {
  BufferSizes sizes;
  sizes.source = band_bytes;
  for (const Recipe& recipe : recipes) sizes.source = std::max(sizes.source, recipe.row_bytes);
  for (const Recipe& recipe : recipes) {
    if (recipe.row_bytes == 0) continue;
    const uint64_t rows = std::min(recipe.tensor->rows(), sizes.source / recipe.row_bytes);
    if (!recipe.copies()) sizes.out = std::max(sizes.out, rows * recipe.out_row_bytes);
    if (recipe.checks()) {
      const uint64_t piece = std::min(rows, recipe.piece_rows()) * recipe.tensor->cols();
      sizes.scratch = std::max(sizes.scratch, piece * sizeof(float));
    }
  }
  return sizes;
}

struct Band {
  BufferPool::Lease source, out, scratch;
  TensorBand in, result;
  std::exception_ptr error;  // of the parallel stage; thrown in order, so that the first one wins
};

[[noreturn]] void ThrowBadValue(const std::string& file, const Recipe& recipe, uint64_t row,
                                uint64_t column, float value) {
  const std::string where = "tensor " + Quoted(recipe.tensor->name) + ", row " +
                            std::to_string(row) + ", column " + std::to_string(column);
  if (std::isfinite(value)) {
    throw DataError("quant.overflow", "a weight is too large for the type")
        .File(file)
        .Where(where)
        .Found(fmt::format("{:.6g}", value))
        .Expected(fmt::format("at most {:.6g} for {}", recipe.to->max_abs, NameOf(recipe.to->type)))
        .Hint("the weights look damaged; -t bf16 or f32 can hold them");
  }
  throw DataError("quant.non-finite", "a weight is no finite number")
      .File(file)
      .Where(where)
      .Found(std::isnan(value) ? "nan"
             : value > 0       ? "inf"
                               : "-inf")
      .Expected("finite weights");
}

// Turns band.in into band.result.
// Throws: Error kData for a value that cannot be encoded; `file` is for its message.
void Convert(const Recipe& recipe, Effort effort, const std::string& file, Band& band) {
  const TensorBand& in = band.in;
  band.result = in;
  if (!recipe.checks()) return;
  const uint64_t cols = recipe.tensor->cols();
  const uint8_t* source = in.bytes.data();
  uint8_t* out = band.out.bytes().data();
  if (!recipe.copies()) band.result.bytes = {out, in.row_count * recipe.out_row_bytes};
  auto* x = reinterpret_cast<float*>(band.scratch.bytes().data());
  const float limit = recipe.copies() ? recipe.from->max_abs : recipe.to->max_abs;
  for (uint64_t row = 0; row < in.row_count;) {
    const uint64_t rows = std::min(recipe.piece_rows(), in.row_count - row);
    recipe.from->decode(source, rows * cols, x);
    const uint64_t bad = FirstAbove(x, rows * cols, limit);
    if (bad != rows * cols) {
      ThrowBadValue(file, recipe, in.row_begin + row + bad / cols, bad % cols, x[bad]);
    }
    if (!recipe.copies()) {
      recipe.to->encode({x, rows, cols, recipe.importance, effort}, out);
      out += rows * recipe.out_row_bytes;
    }
    row += rows;
    source += rows * recipe.row_bytes;
  }
}

// One run of Transcode: the buffers and the three stages that share them.
class Pass {
 public:
  Pass(TensorSource& source, const QuantPlan& plan, TensorSink& sink,
       const TranscodeOptions& options)
      : source_(source),
        sink_(sink),
        options_(options),
        effort_(plan.effort),
        recipes_(MakeRecipes(source.manifest(), plan)),
        pool_(options.memory_bytes),
        threads_(options.threads != 0
                     ? options.threads
                     : static_cast<unsigned>(oneapi::tbb::info::default_concurrency())) {
    LeaseBuffers();
  }

  // Leaves out the tensors that the sink has already.
  void SkipPresent() {
    const size_t n_present = sink_.n_present();
    if (n_present == 0) return;
    source_.SkipTensors(n_present, bands_[0].source.bytes().first(source_view_bytes_));
    uint64_t n_bytes = 0;
    for (size_t i = 0; i < n_present; ++i) n_bytes += recipes_[i].tensor->size_bytes();
    if (options_.progress != nullptr) options_.progress->Advance(n_bytes);
  }

  TranscodeResult Run() {
    using oneapi::tbb::filter_mode;
    using oneapi::tbb::make_filter;
    const auto read = make_filter<void, Band*>(
        filter_mode::serial_in_order,
        [this](oneapi::tbb::flow_control& control) { return Read(control); });
    const auto convert = make_filter<Band*, Band*>(filter_mode::parallel, [this](Band* band) {
      try {
        Convert(recipes_[band->in.tensor], effort_, source_.name(), *band);
      } catch (...) {
        band->error = std::current_exception();
      }
      return band;
    });
    const auto put =
        make_filter<Band*, void>(filter_mode::serial_in_order, [this](Band* band) { Put(band); });
    // Only more threads than processors need this; where memory runs out, its end may never come.
    std::optional<oneapi::tbb::global_control> limit;
    if (threads_ > static_cast<unsigned>(oneapi::tbb::info::default_concurrency())) {
      limit.emplace(oneapi::tbb::global_control::max_allowed_parallelism, threads_);
    }
    oneapi::tbb::task_arena arena(static_cast<int>(threads_));
    arena.execute([&] { oneapi::tbb::parallel_pipeline(bands_.size(), read & convert & put); });
    return result_;
  }

 private:
  // Divides the budget: as many bands as the threads can use, smaller ones if those do not fit.
  void LeaseBuffers() {
    BufferSizes sizes = SizesFor(recipes_, options_.band_bytes);
    const BufferSizes least = SizesFor(recipes_, 1);
    const uint64_t reading_bytes = source_.reading_bytes();
    if (reading_bytes + least.total() > options_.memory_bytes) {
      const auto widest = std::ranges::max_element(recipes_, {}, &Recipe::row_bytes);
      throw MemoryBudgetError(
          "one row of tensor " + Quoted(widest->tensor->name) + " with what it becomes",
          reading_bytes + least.total(), options_.memory_bytes);
    }
    const uint64_t budget = options_.memory_bytes - reading_bytes;
    // One band per thread in work, one being read, one being written, and as many waiting.
    const uint64_t wanted = 2 * uint64_t{threads_} + 2;
    for (uint64_t band = options_.band_bytes; sizes.total() * wanted > budget;) {
      if (sizes.source == least.source) break;
      band /= 2;
      sizes = SizesFor(recipes_, band);
    }
    const uint64_t fitting = budget / std::max<uint64_t>(1, sizes.total());
    bands_.resize(std::clamp<uint64_t>(fitting, 1, wanted));
    for (Band& band : bands_) {
      band.source = pool_.Acquire(sizes.source, "a band");
      if (sizes.out != 0) band.out = pool_.Acquire(sizes.out, "a band");
      if (sizes.scratch != 0) band.scratch = pool_.Acquire(sizes.scratch, "a band");
      idle_.push_back(&band);
    }
    source_view_bytes_ = sizes.source;
  }

  Band* Read(oneapi::tbb::flow_control& control) {
    Band* band = TakeIdle();
    const auto next = source_.Next(band->source.bytes().first(source_view_bytes_));
    if (!next) {
      control.stop();
      return nullptr;
    }
    band->in = *next;
    return band;
  }

  void Put(Band* band) {
    if (band->error) std::rethrow_exception(band->error);
    sink_.Put(band->result);
    result_.source_bytes += band->in.bytes.size();
    result_.out_bytes += band->result.bytes.size();
    if (options_.progress != nullptr) options_.progress->Advance(band->in.bytes.size());
    const std::lock_guard lock(idle_mutex_);
    idle_.push_back(band);
  }

  // Returns the band that was used last: its memory is still in the cache.
  Band* TakeIdle() {
    const std::lock_guard lock(idle_mutex_);
    // There are as many bands as the pipeline has tokens.
    QUERN_CHECK(!idle_.empty());
    Band* band = idle_.back();
    idle_.pop_back();
    return band;
  }

  TensorSource& source_;
  TensorSink& sink_;
  const TranscodeOptions& options_;
  const Effort effort_;
  const std::vector<Recipe> recipes_;
  BufferPool pool_;
  const unsigned threads_;
  uint64_t source_view_bytes_ = 0;
  std::vector<Band> bands_;
  std::mutex idle_mutex_;
  std::vector<Band*> idle_;
  TranscodeResult result_;
};

}  // namespace

TranscodeResult Transcode(TensorSource& source, const QuantPlan& plan, TensorSink& sink,
                          const TranscodeOptions& options) {
  const Manifest& manifest = source.manifest();
  Pass pass(source, plan, sink, options);
  sink.Begin(plan.Apply(manifest));
  if (options.progress != nullptr) {
    options.progress->Begin("transcode", manifest.tensor_bytes(), "bytes");
  }
  pass.SkipPresent();
  const TranscodeResult result = pass.Run();
  sink.Finish();
  if (options.progress != nullptr) options.progress->End();
  return result;
}

}  // namespace quern
