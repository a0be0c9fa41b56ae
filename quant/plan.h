// Which type each tensor gets, decided before any work: a pure function of the manifest and the
// options, printable with its reasons.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/core/manifest.h"
#include "quant/codec.h"
#include "quant/importance.h"

namespace quern {

struct PlanEntry {
  DType type = DType::kF32;
  std::string reason;     // a short phrase: "matrix", "1-D", "rows of 100 do not divide 32", …
  bool fallback = false;  // the wanted type did not fit the shape
  bool operator==(const PlanEntry&) const = default;
};

struct QuantPlan {
  std::string preset;
  std::optional<uint32_t> file_type;  // general.file_type of the output
  std::vector<PlanEntry> entries;     // one per tensor of the manifest, in its order
  std::vector<std::string> warnings;  // for the user, before work begins
  uint64_t n_requantized = 0;         // tensors that were quantized and become another quantized type
  Effort effort = Effort::kNormal;
  std::shared_ptr<const Importance> importance;  // may be null
  std::vector<MetadataEntry> metadata;           // what the output says of how it was made

  // Returns the output's manifest: the same tensors with the plan's types, and the plan's metadata
  // in place of older entries with the same keys.
  // Requires: `manifest` has the tensors that the plan was made for.
  Manifest Apply(const Manifest& manifest) const;
};

// A type that the user asks for, whatever the preset says.
struct TypeOverride {
  std::optional<TensorRole> role;  // for all tensors of this role
  std::string
      pattern;  // without a role: for matrices of such names ('*' any run, '?' any character)
  DType type = DType::kF32;
  std::string origin;  // the plan's reason, fit to be printed: "--tensor blk.0.*", "recipe line 3"
};

struct PlanOptions {
  // Lets tensors that are quantized already be decoded and quantized again, which loses accuracy.
  bool requantize = false;
  // Every matrix gets the preset's main type, the embedding and the output matrix included.
  bool pure = false;
  // The output matrix keeps its type.
  bool keep_output = false;
  // Come before all else; of several that match a tensor the first wins.
  std::vector<TypeOverride> overrides = {};
  Effort effort = Effort::kNormal;
  std::shared_ptr<const Importance> importance = nullptr;
};

struct Preset {
  std::string_view name;         // lower case
  std::string_view description;  // what it is for, half a sentence
  std::optional<DType> type;     // the type of most matrices; none for "source"
  uint32_t file_type;            // general.file_type; unused for "source"
};

// Returns the presets, in the order in which a list should show them.
std::span<const Preset> AllPresets();
// Another name of a preset.
struct PresetAlias {
  std::string_view alias, preset;
};
std::span<const PresetAlias> PresetAliases();
// Returns the preset of that name or alias ("q4_k" means "q4_k_m"), whatever its case, or null.
const Preset* FindPreset(std::string_view name);

// What a preset's rules may look at besides the tensor itself.
struct ModelCensus {
  uint32_t n_layers = 0;  // as the model's hyperparameters say; 0 if unknown
  uint32_t n_heads = 0, n_kv_heads = 0;
  bool has_output = true;  // false: the embedding serves as the output matrix
  bool has_importance = false;
};

// Returns what the preset gives to a matrix of a known role that is the `index`-th (from 0, by
// layer) of `count` of its role, before shapes are looked at.
// Requires: preset.type has a value.
PlanEntry PresetEntry(const Preset& preset, const ModelCensus& census, const TensorInfo& tensor,
                      uint32_t index, uint32_t count);

// Returns the role of that name ("attn_q", "token_embd", …), or nothing.
std::optional<TensorRole> FindRole(std::string_view name);
// Returns the names that FindRole knows, for messages: "token_embd, attn_q, …".
std::string RoleNames();

// Returns the plan for writing `manifest` with `preset`. Matrices of known roles get what the
// preset says ("source": keep their type); vectors of f16 and bf16 become f32; everything else
// stays. A type whose blocks do not divide a tensor's rows is replaced as in llama.cpp, with the
// reason. Throws: Error kUsage "quant.preset" if there is no such preset; kUnsupported
// "quant.requantize" if a quantized tensor would have to be quantized again without
// PlanOptions::requantize, or "quant.no-codec" if it is of a type that quern cannot decode; kData
// as ImportanceOf.
QuantPlan MakePlan(const Manifest& manifest, std::string_view preset,
                   const PlanOptions& options = {});

}  // namespace quern
