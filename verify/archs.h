// The table of architectures, and what the measures need of any of them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "formats/core/stream.h"
#include "verify/row_store.h"

namespace quern {

// In what the matrix products are computed. Norms, rotations, softmax and sums are f32 or wider in
// either case.
enum class Compute : uint8_t {
  kF32,   // the reference
  kBF16,  // operands rounded to bf16, sums in f32
};

struct LinearWorkspaces;  // verify/linear.h

struct ForwardOptions {
  Compute compute = Compute::kF32;
  bool portable_product = false;  // Use quern's own kernel even where oneDNN is there.
  // What threads work with, shared by models that are never evaluated at the same time. Null: a
  // model has its own.
  std::shared_ptr<LinearWorkspaces> workspaces = nullptr;
};

// What a matrix is about to be multiplied with.
struct MatrixInput {
  size_t tensor = 0;         // index into Manifest::tensors
  const float* x = nullptr;  // [rows, cols], one row per token
  uint64_t rows = 0, cols = 0;
};

// Windows of equal length that go through the layers together; each is a text of its own.
struct WindowBatch {
  std::span<const int32_t> tokens;  // n_windows * context ids
  uint64_t n_windows = 0;
  uint64_t context = 0;
  // The positions [scored_begin, scored_begin + n_scored) of each window go on to the vocabulary.
  uint64_t scored_begin = 0;
  uint64_t n_scored = 0;
  // Where not even one window fits in memory: so many of its positions are computed at a time, and
  // each weight is read once for each such part. 0: all of them. Requires otherwise: n_windows
  // == 1.
  uint64_t part_rows = 0;
  // Where keys and values of a window in parts are.
  RowPlace place = RowPlace::kMemory;
  // Called behind each layer, on the calling thread; may be empty.
  std::function<void()> layer_done = {};
  // Called with the input of each matrix product, on the calling thread, once for each matrix that
  // takes the input (and once for each part of a window); the rows of a window in order. May be
  // empty.
  std::function<void(const MatrixInput&)> input = {};
};

// A model that can be evaluated over windows of text. Work is done in the caller's oneTBB arena,
// split by shape alone: the same bits for any number of threads.
class LanguageModel {
 public:
  virtual ~LanguageModel() = default;
  virtual const ModelSpec& spec() const = 0;

  // Returns the bytes that Forward needs for its batch; of `x` too where it is in memory. part_rows
  // and place as in WindowBatch, place that of `x` too. Units: bytes.
  virtual uint64_t ActivationBytes(uint64_t n_windows, uint64_t context, uint64_t part_rows = 0,
                                   RowPlace place = RowPlace::kMemory) const = 0;
  // Returns the bytes that each thread works with.
  // Units: bytes.
  virtual uint64_t WorkspaceBytes(uint64_t context) const = 0;

  // Writes the residual stream that the first layer gets.
  // Shape: x [n_windows * context, d_model].
  // Throws: as TensorStore::ReadRows and RowStore; Error kData "forward.token" for an id outside
  // the vocabulary. Requires: `x` is in memory unless the batch goes in parts; so do the next two.
  virtual void Embed(const WindowBatch& batch, RowStore& x) const = 0;
  // Sends `x` through the layers [begin, end). Behind the last layer, the scored rows stand
  // together at the front of `x`: [n_windows * n_scored, d_model].
  // Throws: as TensorStore::ReadRows and RowStore.
  virtual void RunLayers(const WindowBatch& batch, uint32_t begin, uint32_t end,
                         RowStore& x) const = 0;
  // Makes the scored rows, as the last layer left them, what the output matrix is multiplied with.
  virtual void Finish(const WindowBatch& batch, RowStore& x) const = 0;

  // All three: sends `batch` through the whole model, and leaves of `x` the scored rows.
  // Cost: every weight is read and decoded once (once per part of a window, see part_rows).
  // Throws: as Embed and RunLayers.
  void Forward(const WindowBatch& batch, RowStore& x) const;
  // The same with a stream of its own. Shape: hidden [n_windows * n_scored, d_model].
  void Forward(const WindowBatch& batch, std::span<float> hidden) const;

  // Writes the logits of the vocabulary's entries [begin, begin + count) for rows of `hidden`.
  // Shape: hidden [n_rows, d_model]; logits [n_rows, count].
  virtual void Logits(std::span<const float> hidden, uint64_t begin, uint64_t count,
                      std::span<float> logits) const = 0;
};

struct ArchInfo {
  std::string_view name;  // general.architecture
  // Throws: as OpenLanguageModel. Requires: `store` outlives the model.
  std::unique_ptr<LanguageModel> (*Open)(const TensorStore& store, const ForwardOptions& options);
};

// Returns the table.
std::span<const ArchInfo* const> AllArchs();

// Returns the model in `store`, its tensors found and their shapes checked.
// Throws: Error kUnsupported "arch.unknown", "arch.unknown-tensor" or "arch.dtype"; kData "arch.spec",
// "arch.missing-tensor" or "arch.shape", which name tensor, found and expected. Requires: `store`
// outlives the model.
std::unique_ptr<LanguageModel> OpenLanguageModel(const TensorStore& store,
                                                 const ForwardOptions& options);

}  // namespace quern
