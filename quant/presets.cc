// The presets, as tables of rules. The types are llama.cpp's for the same model, so that files have
// the known sizes; mxfp4 on dense models is quern's own.
// Source: llama.cpp's llama_ftype and the rules of its llama-quantize (release of 2026-09).
#include <algorithm>
#include <array>
#include <string>

#include "formats/core/ascii.h"
#include "quant/plan.h"

namespace quern {
namespace {

using enum TensorRole;

// For which of the tensors of a role a rule holds; i is the tensor's place among n.
enum class When : uint8_t {
  kAlways,
  kFirst2,                          // i < 2
  kFirst4,                          // i < 4
  kFirst16th,                       // i < n / 16
  kFirst8th,                        // i < n / 8
  kFirst8thWithImportance,
  kFirst8thWithoutImportance,
  kMoreBits,                        // the first and last eighth, and every third between
  kGroupedBy4,                      // at least four heads share a key and value
};

struct Rule {
  TensorRole role;
  When when;
  DType type;
};

// The first rule that holds counts; else the preset's type.
constexpr Rule kRulesQ4_0[] = {{kFfnDown, When::kFirst8thWithImportance, DType::kQ4_1}};
constexpr Rule kRulesQ5_0[] = {{kFfnDown, When::kFirst8thWithImportance, DType::kQ5_1}};
constexpr Rule kRulesQ2_K[] = {{kAttnV, When::kGroupedBy4, DType::kQ4_K},
                               {kAttnV, When::kAlways, DType::kQ3_K},
                               {kFfnDown, When::kAlways, DType::kQ3_K},
                               {kAttnOutput, When::kAlways, DType::kQ3_K}};
constexpr Rule kRulesQ2_K_S[] = {{kAttnV, When::kGroupedBy4, DType::kQ4_K},
                                 {kFfnDown, When::kFirst8th, DType::kQ4_K}};
constexpr Rule kRulesQ3_K_M[] = {{kAttnV, When::kFirst2, DType::kQ5_K},
                                 {kAttnV, When::kAlways, DType::kQ4_K},
                                 {kFfnDown, When::kFirst16th, DType::kQ5_K},
                                 {kFfnDown, When::kAlways, DType::kQ4_K},
                                 {kAttnOutput, When::kAlways, DType::kQ4_K}};
constexpr Rule kRulesQ3_K_L[] = {{kAttnV, When::kAlways, DType::kQ5_K},
                                 {kFfnDown, When::kAlways, DType::kQ5_K},
                                 {kAttnOutput, When::kAlways, DType::kQ5_K}};
constexpr Rule kRulesQ4_K_S[] = {{kAttnV, When::kFirst4, DType::kQ5_K},
                                 {kFfnDown, When::kFirst8th, DType::kQ5_K}};
constexpr Rule kRulesMoreQ6_K[] = {{kAttnV, When::kMoreBits, DType::kQ6_K},
                                   {kFfnDown, When::kMoreBits, DType::kQ6_K}};
constexpr Rule kRulesIQ4[] = {{kAttnV, When::kGroupedBy4, DType::kQ5_K},
                              {kFfnDown, When::kFirst8thWithoutImportance, DType::kQ5_K}};

struct PresetRow {
  Preset preset;
  std::span<const Rule> rules;
};

constexpr PresetRow kRows[] = {
    {{"source", "matrices keep their type, nothing is rounded", std::nullopt, 0}, {}},
    {{"f32", "every weight in full", DType::kF32, 0}, {}},
    {{"f16", "half precision, the usual base for other tools", DType::kF16, 1}, {}},
    {{"bf16", "half the size of f32 with its range", DType::kBF16, 32}, {}},
    {{"q8_0", "practically lossless, half of f16", DType::kQ8_0, 7}, {}},
    {{"q6_k", "very close to lossless", DType::kQ6_K, 18}, {}},
    {{"q5_k_m", "high quality", DType::kQ5_K, 17}, kRulesMoreQ6_K},
    {{"q5_k_s", "high quality, a little smaller", DType::kQ5_K, 16}, {}},
    {{"q5_0", "older five-bit type", DType::kQ5_0, 8}, kRulesQ5_0},
    {{"q5_1", "older five-bit type with minima", DType::kQ5_1, 9}, {}},
    {{"q4_k_m", "the usual choice: small, little loss", DType::kQ4_K, 15}, kRulesMoreQ6_K},
    {{"q4_k_s", "a little smaller than q4_k_m", DType::kQ4_K, 14}, kRulesQ4_K_S},
    {{"q4_0", "small and fast everywhere", DType::kQ4_0, 2}, kRulesQ4_0},
    {{"q4_1", "older four-bit type with minima", DType::kQ4_1, 3}, {}},
    {{"iq4_nl", "four bits with a codebook, any row of 32", DType::kIQ4_NL, 25}, kRulesIQ4},
    {{"iq4_xs", "four bits with a codebook, smallest of the good", DType::kIQ4_XS, 30}, kRulesIQ4},
    {{"mxfp4", "four-bit floating point with shared exponents", DType::kMXFP4, 38}, {}},
    {{"q3_k_l", "three bits, more for the sensitive matrices", DType::kQ3_K, 13}, kRulesQ3_K_L},
    {{"q3_k_m", "three bits, noticeable loss", DType::kQ3_K, 12}, kRulesQ3_K_M},
    {{"q3_k_s", "three bits throughout", DType::kQ3_K, 11}, {}},
    {{"q2_k", "two bits, large loss", DType::kQ2_K, 10}, kRulesQ2_K},
    {{"q2_k_s", "two bits nearly throughout; wants an imatrix", DType::kQ2_K, 21}, kRulesQ2_K_S},
};

constexpr auto kPresets = [] {
  std::array<Preset, std::size(kRows)> presets;
  for (size_t i = 0; i < presets.size(); ++i) presets[i] = kRows[i].preset;
  return presets;
}();

constexpr PresetAlias kAliases[] = {
    {"q3_k", "q3_k_m"}, {"q4_k", "q4_k_m"}, {"q5_k", "q5_k_m"}};

bool Holds(When when, const ModelCensus& census, uint32_t i, uint32_t n) {
  switch (when) {
    case When::kAlways: return true;
    case When::kFirst2: return i < 2;
    case When::kFirst4: return i < 4;
    case When::kFirst16th: return i < n / 16;
    case When::kFirst8th: return i < n / 8;
    case When::kFirst8thWithImportance: return census.has_importance && i < n / 8;
    case When::kFirst8thWithoutImportance: return !census.has_importance && i < n / 8;
    case When::kMoreBits: return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
    case When::kGroupedBy4: return census.n_kv_heads != 0 && census.n_heads / census.n_kv_heads >= 4;
  }
  return false;
}

std::string_view ReasonOf(When when) {
  switch (when) {
    case When::kAlways: return "role";
    case When::kFirst2: return "among the first 2";
    case When::kFirst4: return "among the first 4";
    case When::kFirst16th: return "in the first sixteenth";
    case When::kFirst8th:
    case When::kFirst8thWithImportance: return "in the first eighth";
    case When::kFirst8thWithoutImportance: return "in the first eighth, no imatrix";
    case When::kMoreBits: return "a layer that gets more bits";
    case When::kGroupedBy4: return "shared by 4 or more heads";
  }
  return "";
}

bool IsOutput(const ModelCensus& census, const TensorInfo& tensor) {
  return tensor.role == kOutput || (tensor.role == kTokenEmbedding && !census.has_output);
}

PlanEntry OutputEntry(const Preset& preset, const TensorInfo& tensor) {
  const BlockLayout& layout = LayoutOf(*preset.type);
  if (tensor.cols() % layout.block_elems != 0) {
    return {DType::kQ8_0,
            "output, rows of " + std::to_string(tensor.cols()) + " do not divide into blocks of " +
                std::to_string(layout.block_elems) + " for " + std::string(layout.name),
            true};
  }
  if (preset.type == DType::kQ8_0) return {DType::kQ8_0, "output"};
  return {DType::kQ6_K, "output"};
}

}  // namespace

std::span<const Preset> AllPresets() { return kPresets; }

std::span<const PresetAlias> PresetAliases() { return kAliases; }

const Preset* FindPreset(std::string_view name) {
  for (const auto& [alias, meaning] : kAliases) {
    if (SameIgnoringCase(alias, name)) name = meaning;
  }
  const auto found = std::ranges::find_if(
      kPresets, [&](const Preset& preset) { return SameIgnoringCase(preset.name, name); });
  return found != kPresets.end() ? &*found : nullptr;
}

PlanEntry PresetEntry(const Preset& preset, const ModelCensus& census, const TensorInfo& tensor,
                      uint32_t index, uint32_t count) {
  if (IsFloat(*preset.type)) return {*preset.type, "matrix"};
  if (preset.type == DType::kMXFP4) {
    const bool edge = IsOutput(census, tensor) || tensor.role == kTokenEmbedding;
    return edge ? PlanEntry{DType::kQ8_0, "embedding and output"} : PlanEntry{DType::kMXFP4, "matrix"};
  }
  if (IsOutput(census, tensor)) return OutputEntry(preset, tensor);
  PlanEntry entry{*preset.type, "matrix"};
  const auto row = std::ranges::find(kRows, preset.name,
                                     [](const PresetRow& r) { return r.preset.name; });
  for (const Rule& rule : row->rules) {
    if (rule.role != tensor.role || !Holds(rule.when, census, index, count)) continue;
    entry = {rule.type, std::string(ReasonOf(rule.when))};
    break;
  }
  // The 70B models share values among so many heads that five bits cost next to nothing.
  const bool is_70b = census.n_layers == 80 && census.n_heads != census.n_kv_heads;
  if (is_70b && tensor.role == kAttnV &&
      (entry.type == DType::kQ3_K || entry.type == DType::kQ4_K)) {
    entry = {DType::kQ5_K, "80 layers with shared values"};
  }
  return entry;
}

}  // namespace quern
