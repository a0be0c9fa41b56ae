#include "converters/hf_config.h"

#include <algorithm>
#include <array>
#include <limits>

#include "formats/core/error.h"
#include "formats/json_limits.h"

namespace quern {
namespace {

// Above every released model by far, and small enough that products of any three fit 64 bits.
constexpr uint64_t kMaxDim = 1u << 20;
constexpr uint64_t kMaxLayers = 65535;
constexpr uint64_t kMaxVocabulary = 1u << 22;
constexpr uint64_t kMaxContext = std::numeric_limits<int32_t>::max();  // what llama.cpp can take

JsonValue ParseObject(std::string_view text, std::string_view file) {
  JsonValue object = ParseJson(text, file);
  if (!object.is_object()) {
    throw DataError("config.value", "not an object")
        .File(file)
        .Found(object.ToString())
        .Expected("an object");
  }
  return object;
}

// Returns the member, or nothing if it is absent or null. null stands for a default in real files.
std::optional<JsonValue> Present(const JsonValue& object, std::string_view key) {
  auto value = object.Find(key);
  if (value && value->kind() == JsonValue::Kind::kNull) return std::nullopt;
  return value;
}

uint32_t CountOr(const JsonValue& object, std::string_view key, uint64_t max, uint32_t otherwise,
                 std::string_view file) {
  const auto value = OptionalUint(object, key, max, file);
  if (value && *value == 0) ThrowConfigValue(file, key, "0", "a positive integer");
  return value ? static_cast<uint32_t>(*value) : otherwise;
}

// The bounds keep the value and its reciprocal inside f32, the type that GGUF stores.
double PositiveOr(const JsonValue& object, std::string_view key, double otherwise,
                  std::string_view file) {
  const auto value = OptionalDouble(object, key, file);
  if (!value) return otherwise;
  if (!(*value > 1e-30 && *value < 1e30)) {
    ThrowConfigValue(file, key, object.Find(key)->ToString(), "a positive number");
  }
  return *value;
}

Error Feature(std::string_view id, const std::string& what, std::string_view file,
              std::string_view key, const JsonValue& found) {
  return UnsupportedError(id, what).File(file).Where("key " + Quoted(key)).Found(found.ToString());
}

void RequireLlama(const JsonValue& object, std::string_view file) {
  const auto model_type = Present(object, "model_type");
  if (model_type && (!model_type->is_string() || model_type->String() != "llama")) {
    throw Feature("hf.architecture", "the model is no Llama", file, "model_type", *model_type)
        .Expected("'llama'");
  }
  const auto architectures = Present(object, "architectures");
  if (!architectures) {
    if (model_type) return;
    throw DataError("config.value", "nothing says what the model is")
        .File(file)
        .Expected("\"model_type\": \"llama\", or \"architectures\"")
        .Hint("take config.json from the same release as the weights");
  }
  if (!architectures->is_array()) {
    ThrowConfigValue(file, "architectures", architectures->ToString(), "an array of names");
  }
  for (const auto& item : architectures->items()) {
    // The second is the spelling of the first conversions of LLaMA 1.
    if (item.value.is_string() &&
        (item.value.String() == "LlamaForCausalLM" || item.value.String() == "LLaMAForCausalLM")) {
      continue;
    }
    throw Feature("hf.architecture", "the model is no plain Llama", file, "architectures",
                  item.value)
        .Expected("'LlamaForCausalLM'");
  }
}

// Members that change the model when they have another value than the one that quern computes.
void RefuseOtherModels(const JsonValue& object, std::string_view file) {
  for (const std::string_view key : {"attention_bias", "mlp_bias"}) {
    const auto value = OptionalBool(object, key, file);
    if (value && *value) {
      throw Feature("hf.feature", "linear layers with biases are not read", file, key,
                    *object.Find(key))
          .Expected("false");
    }
  }
  if (const auto act = Present(object, "hidden_act")) {
    if (!act->is_string() || act->String() != "silu") {
      throw Feature("hf.feature", "another activation than Llama's", file, "hidden_act", *act)
          .Expected("'silu'");
    }
  }
  if (const auto window = Present(object, "sliding_window")) {
    throw Feature("hf.feature", "attention in a sliding window is not read", file, "sliding_window",
                  *window)
        .Expected("null");
  }
  if (const auto partial = OptionalDouble(object, "partial_rotary_factor", file)) {
    if (*partial != 1) {
      throw Feature("hf.feature", "heads that are rotated in part are not read", file,
                    "partial_rotary_factor", *object.Find("partial_rotary_factor"))
          .Expected("1.0");
    }
  }
}

// Reads rope_scaling, or rope_parameters as newer configurations call it.
void ReadRope(const JsonValue& object, std::string_view file, HfConfig& config) {
  config.rope_theta = PositiveOr(object, "rope_theta", 10000.0, file);
  for (const std::string_view member : {"rope_scaling", "rope_parameters"}) {
    const auto rope = Present(object, member);
    if (!rope) continue;
    if (!rope->is_object()) ThrowConfigValue(file, member, rope->ToString(), "an object or null");
    config.rope_theta = PositiveOr(*rope, "rope_theta", config.rope_theta, file);
    const auto new_name = OptionalString(*rope, "rope_type", file);
    const auto old_name = OptionalString(*rope, "type", file);
    const std::string type = new_name.value_or(old_name.value_or("default"));
    if (type == "default") continue;
    if (type == "linear") {
      RequireDouble(*rope, "factor", file);
      config.rope_linear_factor = PositiveOr(*rope, "factor", 1, file);
    } else if (type == "llama3") {
      RopeFrequencyScaling scaling;
      RequireDouble(*rope, "factor", file);
      scaling.factor = PositiveOr(*rope, "factor", scaling.factor, file);
      scaling.low_frequency_factor =
          PositiveOr(*rope, "low_freq_factor", scaling.low_frequency_factor, file);
      scaling.high_frequency_factor =
          PositiveOr(*rope, "high_freq_factor", scaling.high_frequency_factor, file);
      scaling.original_context =
          PositiveOr(*rope, "original_max_position_embeddings", scaling.original_context, file);
      if (scaling.high_frequency_factor <= scaling.low_frequency_factor) {
        ThrowConfigValue(file, "high_freq_factor", std::to_string(scaling.high_frequency_factor),
                         "a number above low_freq_factor");
      }
      config.rope_frequency_scaling = scaling;
    } else {
      throw Feature("hf.feature", "position scaling " + Quoted(type) + " is not read", file, member,
                    *rope)
          .Expected("default, linear or llama3");
    }
  }
}

// 8-bit floats by any of the names under which their layouts are published.
void ReadQuantization(const JsonValue& object, std::string_view file, HfConfig& config) {
  const auto quantization = Present(object, "quantization_config");
  if (!quantization) return;
  if (!quantization->is_object()) {
    ThrowConfigValue(file, "quantization_config", quantization->ToString(), "an object");
  }
  const std::string method = OptionalString(*quantization, "quant_method", file).value_or("");
  const std::string format = OptionalString(*quantization, "format", file).value_or("");
  const bool is_float8 = method == "fp8" || method == "fbgemm_fp8" ||
                         (method == "compressed-tensors" && format == "float-quantized");
  if (!is_float8) {
    throw UnsupportedError("hf.quantization", "weights are quantized in a way that is not read")
        .File(file)
        .Where("key 'quantization_config'")
        .Found("quant_method " + Quoted(method) +
               (format.empty() ? "" : ", format " + Quoted(format)))
        .Expected(
            "no quantization, or 8-bit floats (fp8, fbgemm_fp8, compressed-tensors "
            "float-quantized)")
        .Hint("convert the unquantized release of the same model");
  }
  config.float8 = HfFloat8{};
  const auto block = Present(*quantization, "weight_block_size");
  if (!block) return;
  std::vector<uint32_t> sizes;
  if (block->is_array()) {
    for (const auto& item : block->items()) {
      if (item.value.kind() == JsonValue::Kind::kUint && item.value.Uint() > 0 &&
          item.value.Uint() <= kMaxDim) {
        sizes.push_back(static_cast<uint32_t>(item.value.Uint()));
      }
    }
  }
  if (sizes.size() != 2 || block->size() != 2) {
    ThrowConfigValue(file, "weight_block_size", block->ToString(), "two positive integers");
  }
  config.float8->block_rows = sizes[0];
  config.float8->block_cols = sizes[1];
}

// Returns the id, or the first of a list of ids; -1 and null stand for none.
std::optional<uint32_t> TokenId(const JsonValue& object, std::string_view key,
                                std::string_view file) {
  auto value = Present(object, key);
  if (!value) return std::nullopt;
  if (value->is_array()) {
    if (value->size() == 0) return std::nullopt;
    value = (*value->items().begin()).value;
  }
  if (value->kind() == JsonValue::Kind::kInt && value->Int() == -1) return std::nullopt;
  if (value->kind() != JsonValue::Kind::kUint || value->Uint() > kMaxVocabulary) {
    ThrowConfigValue(file, key, value->ToString(), "the id of a token, or a list of ids");
  }
  return static_cast<uint32_t>(value->Uint());
}

}  // namespace

HfConfig ParseHfConfig(std::string_view text, std::string_view file) {
  const JsonValue object = ParseObject(text, file);
  RequireLlama(object, file);
  RefuseOtherModels(object, file);

  HfConfig config;
  config.hidden_size = CountOr(object, "hidden_size", kMaxDim, 4096, file);
  config.intermediate_size = CountOr(object, "intermediate_size", kMaxDim, 11008, file);
  config.n_layers = CountOr(object, "num_hidden_layers", kMaxLayers, 32, file);
  config.n_heads = CountOr(object, "num_attention_heads", kMaxDim, 32, file);
  config.n_kv_heads = CountOr(object, "num_key_value_heads", kMaxDim, config.n_heads, file);
  config.head_dim = CountOr(object, "head_dim", kMaxDim, 0, file);
  config.vocab_size = CountOr(object, "vocab_size", kMaxVocabulary, 32000, file);
  // The first conversions of LLaMA 1 say max_sequence_length.
  const uint32_t old_context = CountOr(object, "max_sequence_length", kMaxContext, 2048, file);
  config.context_length =
      CountOr(object, "max_position_embeddings", kMaxContext, old_context, file);
  config.norm_eps = PositiveOr(object, "rms_norm_eps", 1e-6, file);
  config.tied_embeddings = OptionalBool(object, "tie_word_embeddings", file).value_or(false);
  ReadRope(object, file, config);
  ReadQuantization(object, file, config);

  if (config.head_dim == 0) {
    if (config.hidden_size % config.n_heads != 0) {
      ThrowConfigValue(file, "num_attention_heads", std::to_string(config.n_heads),
                       "a divisor of hidden_size " + std::to_string(config.hidden_size) +
                           " (there is no head_dim)");
    }
    config.head_dim = config.hidden_size / config.n_heads;
  }
  if (config.head_dim % 2 != 0) {
    ThrowConfigValue(file, "num_attention_heads", std::to_string(config.n_heads),
                     "heads of even size, not " + std::to_string(config.head_dim));
  }
  if (config.n_heads % config.n_kv_heads != 0) {
    ThrowConfigValue(file, "num_key_value_heads", std::to_string(config.n_kv_heads),
                     "a divisor of num_attention_heads " + std::to_string(config.n_heads));
  }
  return config;
}

HfTokenIds ParseHfTokenIds(std::string_view text, std::string_view file) {
  const JsonValue object = ParseObject(text, file);
  return {TokenId(object, "bos_token_id", file), TokenId(object, "eos_token_id", file),
          TokenId(object, "pad_token_id", file)};
}

}  // namespace quern
