#include "verify/archs.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "formats/core/error.h"
#include "formats/gguf_metadata.h"
#include "verify/arch_llama.h"

namespace quern {
namespace {

constexpr std::array<const ArchInfo*, 1> kArchs = {&kArchLlama};

}  // namespace

void LanguageModel::Forward(const WindowBatch& batch, RowStore& x) const {
  Embed(batch, x);
  RunLayers(batch, 0, spec().n_layers, x);
  Finish(batch, x);
  x.Truncate(batch.n_windows * batch.n_scored);
}

void LanguageModel::Forward(const WindowBatch& batch, std::span<float> hidden) const {
  RowStore x(batch.n_windows * batch.context, spec().d_model, RowPlace::kMemory);
  Forward(batch, x);
  std::vector<float> buffer;
  std::ranges::copy_n(x.Get(0, x.n_rows(), buffer), static_cast<std::ptrdiff_t>(hidden.size()),
                      hidden.begin());
}

std::span<const ArchInfo* const> AllArchs() { return kArchs; }

std::unique_ptr<LanguageModel> OpenLanguageModel(const TensorStore& store,
                                                 const ForwardOptions& options) {
  const ModelSpec& spec = RequireSpec(store.manifest(), store.name());
  std::string known;
  for (const ArchInfo* arch : kArchs) {
    if (arch->name == spec.arch) return arch->Open(store, options);
    known += (known.empty() ? "" : ", ") + std::string(arch->name);
  }
  throw UnsupportedError("arch.unknown", "quern cannot evaluate this architecture")
      .File(store.name())
      .Found(Quoted(spec.arch))
      .Expected(known);
}

}  // namespace quern
