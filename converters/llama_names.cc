#include "converters/llama_names.h"

#include <array>
#include <charconv>

namespace quern {
namespace {

constexpr std::array<MetaTensorKind, 12> kTensors = {{
    {TensorRole::kTokenEmbedding, "tok_embeddings.weight", ShardSplit::kEmbedding, false},
    {TensorRole::kAttnNorm, "attention_norm.weight", ShardSplit::kReplicated, true},
    {TensorRole::kAttnQ, "attention.wq.weight", ShardSplit::kRows, true},
    {TensorRole::kAttnK, "attention.wk.weight", ShardSplit::kRows, true},
    {TensorRole::kAttnV, "attention.wv.weight", ShardSplit::kRows, true},
    {TensorRole::kAttnOutput, "attention.wo.weight", ShardSplit::kColumns, true},
    {TensorRole::kFfnNorm, "ffn_norm.weight", ShardSplit::kReplicated, true},
    {TensorRole::kFfnGate, "feed_forward.w1.weight", ShardSplit::kRows, true},
    {TensorRole::kFfnUp, "feed_forward.w3.weight", ShardSplit::kRows, true},
    {TensorRole::kFfnDown, "feed_forward.w2.weight", ShardSplit::kColumns, true},
    {TensorRole::kOutputNorm, "norm.weight", ShardSplit::kReplicated, false},
    {TensorRole::kOutput, "output.weight", ShardSplit::kRows, false},
}};

constexpr uint32_t kMaxLayers = 65536;

struct LayerName {
  uint32_t layer;
  std::string_view rest;
};

// Splits "layers.12.rest".
std::optional<LayerName> SplitLayer(std::string_view name) {
  constexpr std::string_view kPrefix = "layers.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  const size_t dot = name.find('.');
  if (dot == 0 || dot == std::string_view::npos) return std::nullopt;
  const std::string_view digits = name.substr(0, dot);
  if (digits.size() > 1 && digits[0] == '0') return std::nullopt;
  uint32_t layer = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), layer);
  if (error != std::errc() || end != digits.data() + digits.size() || layer >= kMaxLayers) {
    return std::nullopt;
  }
  return LayerName{layer, name.substr(dot + 1)};
}

}  // namespace

std::span<const MetaTensorKind> AllMetaTensors() { return kTensors; }

std::string MetaTensorName(const MetaTensorKind& kind, uint32_t layer) {
  if (!kind.per_layer) return std::string(kind.name);
  return "layers." + std::to_string(layer) + "." + std::string(kind.name);
}

std::optional<MetaNameParts> ParseMetaTensorName(std::string_view name) {
  const auto layer_name = SplitLayer(name);
  for (const MetaTensorKind& kind : kTensors) {
    if (kind.per_layer && layer_name && layer_name->rest == kind.name) {
      return MetaNameParts{&kind, layer_name->layer};
    }
    if (!kind.per_layer && name == kind.name) return MetaNameParts{&kind, std::nullopt};
  }
  return std::nullopt;
}

bool IsIgnoredMetaTensor(std::string_view name) {
  if (name == "rope.freqs") return true;
  const auto layer_name = SplitLayer(name);
  return layer_name && layer_name->rest == "attention.inner_attention.rope.freqs";
}

std::optional<ForeignRelease> UnsupportedMetaTensor(std::string_view name) {
  const auto has = [name](std::string_view part) { return name.find(part) != name.npos; };
  if (has("vision_model.") || has("cross_attention_layers.") || has("vision_encoder.")) {
    return ForeignRelease{"a vision model", "convert the text-only release of the same size"};
  }
  if (name.ends_with(".scales") || name.ends_with(".zeros") || has("adaptor")) {
    return ForeignRelease{"an int4 release (QLoRA or SpinQuant)",
                          "convert the bf16 release of the same model and quantize it with quern"};
  }
  if (has("block_sparse_moe.") || has(".experts.")) {
    return ForeignRelease{"a mixture of experts", "this version reads dense models only"};
  }
  if (has("self_attn.") || has("embed_tokens.") || name == "lm_head.weight") {
    return ForeignRelease{"a file of Hugging Face's layout",
                          "give its folder, with config.json beside the weights"};
  }
  return std::nullopt;
}

}  // namespace quern
