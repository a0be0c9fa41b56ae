#include "converters/params_json.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "formats/core/error.h"
#include "formats/json_limits.h"

namespace quern {
namespace {

// Above every released model by far, and small enough that products of any three fit 64 bits.
constexpr uint64_t kMaxDim = 1u << 20;
constexpr uint64_t kMaxLayers = 4096;
constexpr uint64_t kMaxVocabulary = 1u << 22;
constexpr uint64_t kMaxContext = std::numeric_limits<int32_t>::max();  // what llama.cpp can take

// Returns the member, or nothing if it is absent; it is at least 1.
std::optional<uint32_t> OptionalCount(const JsonValue& object, std::string_view key, uint64_t max,
                                      std::string_view file) {
  const auto value = OptionalUint(object, key, max, file);
  if (!value) return std::nullopt;
  if (*value == 0) ThrowConfigValue(file, key, "0", "a positive integer");
  return static_cast<uint32_t>(*value);
}

uint32_t RequireCount(const JsonValue& object, std::string_view key, uint64_t max,
                      std::string_view file) {
  RequireUint(object, key, max, file);
  return *OptionalCount(object, key, max, file);
}

// Returns the member, or nothing if it is absent; it is finite and above zero.
std::optional<double> OptionalPositive(const JsonValue& object, std::string_view key,
                                       std::string_view file) {
  const auto value = OptionalDouble(object, key, file);
  if (!value) return std::nullopt;
  // The bounds keep the value and its reciprocal inside f32, the type that GGUF stores.
  if (!(*value > 1e-30 && *value < 1e30)) {
    ThrowConfigValue(file, key, object.Find(key)->ToString(), "a positive number");
  }
  return value;
}

// LLaMA 1 and 2 say -1, "take it from the tokenizer".
std::optional<uint32_t> VocabularySizeOf(const JsonValue& object, std::string_view file) {
  const auto value = object.Find("vocab_size");
  if (value && value->kind() == JsonValue::Kind::kInt && value->Int() == -1) return std::nullopt;
  return OptionalCount(object, "vocab_size", kMaxVocabulary, file);
}

// Releases whose weights are something else than a plain Llama.
void RefuseOtherReleases(const JsonValue& object, std::string_view file) {
  struct Mark {
    std::string_view key, kind, hint;
  };
  constexpr std::array<Mark, 7> kMarks = {{
      {"vision_model", "a vision model", "convert the text-only release of the same size"},
      {"vision_chunk_size", "a vision model", "convert the text-only release of the same size"},
      {"moe", "a mixture of experts", "this version reads dense models only"},
      {"moe_args", "a mixture of experts (Llama 4)", "this version reads dense models only"},
      {"vision_args", "a vision model (Llama 4)", "this version reads text-only models"},
      {"quantization_args", "an int4 or fp8 release",
       "convert the bf16 release of the same model and quantize it with quern"},
      {"lora_args", "an int4 release with LoRA adaptors",
       "convert the bf16 release of the same model and quantize it with quern"},
  }};
  for (const Mark& mark : kMarks) {
    const auto value = object.Find(mark.key);
    if (!value || value->kind() == JsonValue::Kind::kNull) continue;
    if (value->kind() == JsonValue::Kind::kInt && value->Int() == -1) continue;  // "none"
    throw UnsupportedError("meta.release", "this is " + std::string(mark.kind))
        .File(file)
        .Where("key " + Quoted(mark.key))
        .Found(value->ToString())
        .Expected("a plain Llama")
        .Hint(mark.hint);
  }
}

struct ContextRule {
  std::string_view name;
  uint32_t length;
  bool (*applies)(const MetaParams& params, const MetaRuleInputs& inputs);
  bool is_doubtful = false;
};

bool IsNear(double value, double wanted) { return std::abs(value - wanted) <= wanted * 1e-6; }

// The first that applies. The length is what the generation was trained for.
// Source: model cards of the releases; the order is that of llama.cpp's converter for Meta's
// files, with the vocabulary asked first and LLaMA 65B (norm_eps 1e-5) told apart by its shape.
constexpr std::array<ContextRule, 7> kContextRules = {{
    {"llama 3.1 (tiktoken, use_scaled_rope)", 131072,
     [](const MetaParams& p, const MetaRuleInputs& in) {
       return in.tiktoken_vocabulary && p.use_scaled_rope;
     }},
    {"llama 3 (tiktoken)", 8192,
     [](const MetaParams&, const MetaRuleInputs& in) { return in.tiktoken_vocabulary; }},
    {"code llama (rope_theta 1e6)", 16384,
     [](const MetaParams& p, const MetaRuleInputs&) {
       return p.rope_theta && IsNear(*p.rope_theta, 1e6);
     }},
    {"llama 1 65B (dim 8192, 80 layers, no n_kv_heads)", 2048,
     [](const MetaParams& p, const MetaRuleInputs&) {
       return p.dim == 8192 && p.n_layers == 80 && p.n_heads == 64 && !p.n_kv_heads;
     }},
    {"llama 2 (norm_eps 1e-5)", 4096,
     [](const MetaParams& p, const MetaRuleInputs&) { return IsNear(p.norm_eps, 1e-5); }},
    // The first release of Llama-2-7b-chat said 1e-6 by mistake.
    {"llama 2 (bfloat16 weights)", 4096,
     [](const MetaParams&, const MetaRuleInputs& in) { return in.bfloat16_weights; },
     /*is_doubtful=*/true},
    {"llama 1", 2048, [](const MetaParams&, const MetaRuleInputs&) { return true; }},
}};

}  // namespace

MetaParams ParseMetaParams(std::string_view text, std::string_view file) {
  JsonValue object = ParseJsonObject(text, file, "an object with dim, n_layers and n_heads");
  if (const auto nested = object.Find("model"); nested && nested->is_object()) object = *nested;
  RefuseOtherReleases(object, file);

  MetaParams params;
  params.dim = RequireCount(object, "dim", kMaxDim, file);
  params.n_layers = RequireCount(object, "n_layers", kMaxLayers, file);
  params.n_heads = RequireCount(object, "n_heads", kMaxDim, file);
  params.n_kv_heads = OptionalCount(object, "n_kv_heads", kMaxDim, file);
  params.vocab_size = VocabularySizeOf(object, file);
  params.multiple_of =
      OptionalCount(object, "multiple_of", kMaxDim, file).value_or(params.multiple_of);
  params.ffn_dim_multiplier = OptionalPositive(object, "ffn_dim_multiplier", file);
  if (params.ffn_dim_multiplier && *params.ffn_dim_multiplier > 1024) {
    ThrowConfigValue(file, "ffn_dim_multiplier", object.Find("ffn_dim_multiplier")->ToString(),
                     "at most 1024");
  }
  params.norm_eps = OptionalPositive(object, "norm_eps", file).value_or(params.norm_eps);
  params.rope_theta = OptionalPositive(object, "rope_theta", file);
  params.use_scaled_rope = OptionalBool(object, "use_scaled_rope", file).value_or(false);
  params.max_seq_len = OptionalCount(object, "max_seq_len", kMaxContext, file);

  const auto head_error = [&](std::string_view key, uint32_t found, const std::string& expected) {
    ThrowConfigValue(file, key, std::to_string(found), expected);
  };
  if (params.dim % params.n_heads != 0) {
    head_error("n_heads", params.n_heads, "a divisor of dim " + std::to_string(params.dim));
  }
  if (params.head_dim() % 2 != 0) {
    head_error("n_heads", params.n_heads,
               "heads of even size (dim is " + std::to_string(params.dim) + ")");
  }
  if (params.n_kv_heads && params.n_heads % *params.n_kv_heads != 0) {
    head_error("n_kv_heads", *params.n_kv_heads,
               "a divisor of n_heads " + std::to_string(params.n_heads));
  }
  return params;
}

uint64_t FeedForwardRows(const MetaParams& params) {
  uint64_t hidden = 2 * (4 * uint64_t{params.dim}) / 3;
  if (params.ffn_dim_multiplier) {
    hidden = static_cast<uint64_t>(*params.ffn_dim_multiplier * static_cast<double>(hidden));
  }
  return (hidden + params.multiple_of - 1) / params.multiple_of * params.multiple_of;
}

double RopeThetaOf(const MetaParams& params, const MetaRuleInputs& inputs) {
  if (params.rope_theta) return *params.rope_theta;
  return inputs.tiktoken_vocabulary ? 500000.0 : 10000.0;
}

ContextLength ContextLengthOf(const MetaParams& params, const MetaRuleInputs& inputs,
                              std::optional<uint32_t> requested) {
  if (requested) return {*requested, ""};
  if (params.max_seq_len) return {*params.max_seq_len, ""};
  const auto rule =
      std::find_if(kContextRules.begin(), kContextRules.end(),
                   [&](const ContextRule& r) { return r.applies(params, inputs); });
  // The last rule always applies.
  return {rule->length, "rule: " + std::string(rule->name), rule->is_doubtful};
}

double RopeScalingFactor(const MetaParams& params) {
  const bool is_1b = params.dim == 2048 && params.n_layers == 16;
  const bool is_3b = params.dim == 3072 && params.n_layers == 28;
  return is_1b || is_3b ? 32.0 : 8.0;
}

}  // namespace quern
