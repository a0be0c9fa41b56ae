#include "converters/hf_names.h"

#include <algorithm>
#include <array>

namespace quern {
namespace {

constexpr std::array<HfTensorKind, 12> kTensors = {{
    {TensorRole::kTokenEmbedding, "model.embed_tokens.weight", false, false},
    {TensorRole::kAttnNorm, "input_layernorm.weight", true, false},
    {TensorRole::kAttnQ, "self_attn.q_proj.weight", true, true},
    {TensorRole::kAttnK, "self_attn.k_proj.weight", true, true},
    {TensorRole::kAttnV, "self_attn.v_proj.weight", true, false},
    {TensorRole::kAttnOutput, "self_attn.o_proj.weight", true, false},
    {TensorRole::kFfnNorm, "post_attention_layernorm.weight", true, false},
    {TensorRole::kFfnGate, "mlp.gate_proj.weight", true, false},
    {TensorRole::kFfnUp, "mlp.up_proj.weight", true, false},
    {TensorRole::kFfnDown, "mlp.down_proj.weight", true, false},
    {TensorRole::kOutputNorm, "model.norm.weight", false, false},
    {TensorRole::kOutput, "lm_head.weight", false, false},
}};

// Parts of names that show what a checkpoint is.
struct ForeignPart {
  std::string_view part, what;
};
constexpr std::array<ForeignPart, 14> kForeignParts = {{
    {"lora_", "an adapter (LoRA)"},
    {"qweight", "weights quantized by GPTQ or AWQ"},
    {"qzeros", "weights quantized by GPTQ or AWQ"},
    {"weight_packed", "packed integer weights (compressed-tensors)"},
    {".absmax", "weights quantized by bitsandbytes"},
    {".quant_map", "weights quantized by bitsandbytes"},
    {".SCB", "weights quantized by bitsandbytes"},
    {"quant_state.", "weights quantized by bitsandbytes"},
    {"vision_", "a vision model"},
    {"multi_modal_projector", "a vision model"},
    {"block_sparse_moe.", "a mixture of experts"},
    {".experts.", "a mixture of experts"},
    {"q_norm.", "attention with norms of its own"},
    {"gpt_neox.", "GPT-NeoX"},
}};

}  // namespace

std::span<const HfTensorKind> AllHfTensors() { return kTensors; }

std::string HfTensorName(const HfTensorKind& kind, uint32_t layer) {
  if (!kind.per_layer) return std::string(kind.name);
  return "model.layers." + std::to_string(layer) + "." + std::string(kind.name);
}

bool IsIgnoredHfTensor(std::string_view name) {
  constexpr std::string_view kIgnored[] = {
      "rotary_emb.inv_freq", ".input_scale", ".input_scale_ub", ".act_scale", ".activation_scale",
      ".output_scale",       ".q_scale",     ".k_scale",        ".v_scale",   ".kv_scale",
      ".prob_scale"};
  return std::ranges::any_of(kIgnored, [&](std::string_view end) { return name.ends_with(end); });
}

std::string_view UnsupportedHfTensor(std::string_view name) {
  for (const ForeignPart& row : kForeignParts) {
    if (name.find(row.part) != name.npos) return row.what;
  }
  if (name.ends_with(".bias")) return "a model with biases";
  return "";
}

}  // namespace quern
