#include "verify/archs.h"

#include <array>
#include <string>

#include "formats/core/error.h"
#include "formats/gguf_metadata.h"
#include "verify/arch_llama.h"

namespace quern {
namespace {

constexpr std::array<const ArchInfo*, 1> kArchs = {&kArchLlama};

}  // namespace

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
