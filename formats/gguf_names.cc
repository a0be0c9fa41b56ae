#include "formats/gguf_names.h"

#include <fmt/format.h>

#include <limits>

#include "formats/core/check.h"

namespace quern {
namespace {

struct NameRow {
  TensorRole role;
  std::string_view stem;
  bool per_layer;
};
constexpr NameRow kNames[] = {
    {TensorRole::kTokenEmbedding, "token_embd", false},
    {TensorRole::kAttnNorm, "attn_norm", true},
    {TensorRole::kAttnQ, "attn_q", true},
    {TensorRole::kAttnK, "attn_k", true},
    {TensorRole::kAttnV, "attn_v", true},
    {TensorRole::kAttnOutput, "attn_output", true},
    {TensorRole::kFfnNorm, "ffn_norm", true},
    {TensorRole::kFfnGate, "ffn_gate", true},
    {TensorRole::kFfnUp, "ffn_up", true},
    {TensorRole::kFfnDown, "ffn_down", true},
    {TensorRole::kOutputNorm, "output_norm", false},
    {TensorRole::kOutput, "output", false},
    {TensorRole::kRopeFreqs, "rope_freqs", false},
};
constexpr std::string_view kLayerPrefix = "blk.";
constexpr std::string_view kWeightSuffix = ".weight";

constexpr bool RowsStandInRoleOrder() {
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (static_cast<size_t>(kNames[i].role) != i) return false;
  }
  return std::size(kNames) == static_cast<size_t>(TensorRole::kOther);
}
static_assert(RowsStandInRoleOrder());

const NameRow& RowOf(TensorRole role) {
  QUERN_CHECK(role != TensorRole::kOther);
  return kNames[static_cast<size_t>(role)];
}

// Returns the number that `text` is, written as std::to_string does.
std::optional<uint32_t> ParseLayer(std::string_view text) {
  if (text.empty() || text.size() > 10 || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  if (value > std::numeric_limits<uint32_t>::max()) return std::nullopt;
  return static_cast<uint32_t>(value);
}

}  // namespace

std::string TensorName(TensorRole role, std::optional<uint32_t> layer) {
  const NameRow& row = RowOf(role);
  QUERN_CHECK(row.per_layer == layer.has_value());
  return row.per_layer ? fmt::format("{}{}.{}{}", kLayerPrefix, *layer, row.stem, kWeightSuffix)
                       : fmt::format("{}{}", row.stem, kWeightSuffix);
}

bool IsPerLayer(TensorRole role) { return role != TensorRole::kOther && RowOf(role).per_layer; }

TensorRoleAndLayer ParseTensorName(std::string_view name) {
  if (!name.ends_with(kWeightSuffix)) return {};
  name.remove_suffix(kWeightSuffix.size());
  std::optional<uint32_t> layer;
  if (name.starts_with(kLayerPrefix)) {
    name.remove_prefix(kLayerPrefix.size());
    const size_t dot = name.find('.');
    layer = ParseLayer(name.substr(0, dot));
    if (!layer || dot == std::string_view::npos) return {};
    name.remove_prefix(dot + 1);
  }
  for (const NameRow& row : kNames) {
    if (row.stem == name && row.per_layer == layer.has_value()) return {row.role, layer};
  }
  return {};
}

}  // namespace quern
