// Which type each tensor gets, decided before any work: a pure function of the manifest and the
// options, printable with its reasons.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/core/manifest.h"
#include "quant/codec.h"

namespace quern {

struct PlanEntry {
  DType type = DType::kF32;
  std::string reason;     // a short phrase: "matrix", "1-D", "rows of 100 do not divide 32", …
  bool fallback = false;  // the preset's type did not fit the shape
  bool operator==(const PlanEntry&) const = default;
};

struct QuantPlan {
  std::string preset;
  std::optional<uint32_t> file_type;  // general.file_type of the output
  std::vector<PlanEntry> entries;     // one per tensor of the manifest, in its order

  // Returns the output's manifest: the same tensors with the plan's types.
  // Requires: `manifest` has the tensors that the plan was made for.
  Manifest Apply(const Manifest& manifest) const;
};

struct PlanOptions {
  // Lets tensors that are quantized already be decoded and quantized again, which loses accuracy.
  bool requantize = false;
};

struct Preset {
  std::string_view name;         // lower case
  std::string_view description;  // what it is for, half a sentence
  std::optional<DType> type;     // the type of most matrices; none for "source"
  uint32_t file_type;            // general.file_type; unused for "source"
};

// Returns the presets, in the order in which a list should show them.
std::span<const Preset> AllPresets();
// Returns the preset of that name, whatever its case, or null.
const Preset* FindPreset(std::string_view name);

// Returns the plan for writing `manifest` with `preset`. Matrices of known roles get the preset's
// type ("source": keep theirs); vectors of f16 and bf16 become f32; everything else stays as it is.
// Rows that do not divide the block fall back to f16, with the reason.
// Throws: Error kUsage "quant.preset" if there is no such preset; kUnsupported "quant.requantize" if
// a quantized tensor would have to be quantized again without PlanOptions::requantize, or
// "quant.no-codec" if it is of a type that quern cannot decode.
QuantPlan MakePlan(const Manifest& manifest, std::string_view preset,
                   const PlanOptions& options = {});

}  // namespace quern
