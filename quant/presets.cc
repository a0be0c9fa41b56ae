// The presets, as a table.
#include <algorithm>
#include <string>

#include "quant/plan.h"

namespace quern {
namespace {

// Source of the last column: llama.cpp's llama_ftype, which general.file_type stores.
constexpr Preset kPresets[] = {
    {"source", "matrices keep their type, nothing is rounded", std::nullopt, 0},
    {"f32", "every weight in full", DType::kF32, 0},
    {"f16", "half precision, the usual base for other tools", DType::kF16, 1},
    {"bf16", "half the size of f32 with its range", DType::kBF16, 32},
    {"q8_0", "practically lossless, half of f16", DType::kQ8_0, 7},
    {"q4_0", "small and fast everywhere", DType::kQ4_0, 2},
};

constexpr char ToLower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

}  // namespace

std::span<const Preset> AllPresets() { return kPresets; }

const Preset* FindPreset(std::string_view name) {
  for (const Preset& preset : kPresets) {
    if (std::ranges::equal(preset.name, name, {}, {}, ToLower)) return &preset;
  }
  return nullptr;
}

}  // namespace quern
