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
constexpr uint64_t kMaxLayers = 4096;
constexpr uint64_t kMaxVocabulary = 1u << 22;
constexpr uint64_t kMaxContext = std::numeric_limits<int32_t>::max();  // what llama.cpp can take

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

void RefusePartialRotation(const JsonValue& object, std::string_view file) {
  constexpr std::string_view kKey = "partial_rotary_factor";
  const auto partial = OptionalDouble(object, kKey, file);
  if (!partial || *partial == 1) return;
  throw Feature("hf.feature", "heads that are rotated in part are not read", file, kKey,
                *object.Find(kKey))
      .Expected("1.0");
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
  RefusePartialRotation(object, file);
}

// Returns the kind of scaling in a rope object. One without a kind may only say what is no scaling: to
// take the others for nothing would be another model.
std::string RopeType(const JsonValue& rope, std::string_view member, std::string_view file) {
  auto type = OptionalString(rope, "rope_type", file);
  if (!type) type = OptionalString(rope, "type", file);
  if (type) return *type;
  for (const auto& [key, value] : rope.items()) {
    const bool is_neutral = key == "rope_theta" || key == "partial_rotary_factor" ||
                            value.kind() == JsonValue::Kind::kNull;
    if (is_neutral) continue;
    ThrowConfigValue(file, std::string(member) + "." + Escaped(key), value.ToString(),
                     "\"rope_type\" beside it, to say what it scales");
  }
  return "default";
}

void ReadLlama3Rope(const JsonValue& rope, std::string_view file, HfConfig& config) {
  RopeFrequencyScaling scaling;
  RequireDouble(rope, "factor", file);
  scaling.factor = PositiveOr(rope, "factor", scaling.factor, file);
  scaling.low_frequency_factor =
      PositiveOr(rope, "low_freq_factor", scaling.low_frequency_factor, file);
  scaling.high_frequency_factor =
      PositiveOr(rope, "high_freq_factor", scaling.high_frequency_factor, file);
  scaling.original_context =
      PositiveOr(rope, "original_max_position_embeddings", scaling.original_context, file);
  if (scaling.high_frequency_factor <= scaling.low_frequency_factor) {
    const auto found = Present(rope, "high_freq_factor");
    ThrowConfigValue(file, "high_freq_factor", found ? found->ToString() : "none",
                     "a number above low_freq_factor");
  }
  config.rope_frequency_scaling = scaling;
}

// Reads rope_scaling, or rope_parameters as newer configurations call it.
void ReadRope(const JsonValue& object, std::string_view file, HfConfig& config) {
  config.rope_theta = PositiveOr(object, "rope_theta", 10000.0, file);
  for (const std::string_view member : {"rope_scaling", "rope_parameters"}) {
    const auto rope = Present(object, member);
    if (!rope) continue;
    if (!rope->is_object()) ThrowConfigValue(file, member, rope->ToString(), "an object or null");
    config.rope_theta = PositiveOr(*rope, "rope_theta", config.rope_theta, file);
    RefusePartialRotation(*rope, file);
    const std::string type = RopeType(*rope, member, file);
    if (type == "default") continue;
    if (type == "linear") {
      RequireDouble(*rope, "factor", file);
      config.rope_linear_factor = PositiveOr(*rope, "factor", 1, file);
    } else if (type == "llama3") {
      ReadLlama3Rope(*rope, file, config);
    } else {
      throw Feature("hf.feature", "position scaling " + Quoted(type) + " is not read", file, member,
                    *rope)
          .Expected("default, linear or llama3");
    }
  }
  if (config.rope_linear_factor && config.rope_frequency_scaling) {
    ThrowConfigValue(file, "rope_parameters", "another scaling than in rope_scaling",
                     "one of the two");
  }
}

// Reads the rows and columns that share a factor, if the member is there.
void ReadBlockSize(const JsonValue& object, std::string_view key, std::string_view file,
                   HfFloat8& float8) {
  const auto block = Present(object, key);
  if (!block) return;
  std::vector<uint32_t> sizes;
  if (block->is_array()) {
    for (const auto& item : block->items()) {
      if (item.value.kind() == JsonValue::Kind::kUint && item.value.Uint() > 0 &&
          item.value.Uint() <= kMaxDim && sizes.size() < 3) {
        sizes.push_back(static_cast<uint32_t>(item.value.Uint()));
      }
    }
  }
  if (sizes.size() != 2 || block->size() != 2) {
    ThrowConfigValue(file, key, block->ToString(), "two positive integers");
  }
  const bool differs = float8.block_rows &&
                       (*float8.block_rows != sizes[0] || *float8.block_cols != sizes[1]);
  if (differs) ThrowConfigValue(file, key, "several sizes of blocks", "one for all weights");
  float8.block_rows = sizes[0];
  float8.block_cols = sizes[1];
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
  ReadBlockSize(*quantization, "weight_block_size", file, *config.float8);
  const auto groups = Present(*quantization, "config_groups");  // of compressed-tensors
  if (!groups || !groups->is_object()) return;
  for (const auto& [name, group] : groups->items()) {
    const auto weights = group.is_object() ? Present(group, "weights") : std::nullopt;
    if (!weights || !weights->is_object()) continue;
    if (OptionalString(*weights, "strategy", file) != "block") continue;
    ReadBlockSize(*weights, "block_structure", file, *config.float8);
  }
}

// Returns the ids of a member: one, or a list of them; -1 and null stand for none.
std::vector<uint32_t> TokenIds(const JsonValue& object, std::string_view key,
                               std::string_view file) {
  constexpr size_t kMaxIds = 256;  // real lists have two or three
  std::vector<uint32_t> ids;
  const auto add = [&](const JsonValue& value) {
    if (value.kind() == JsonValue::Kind::kInt && value.Int() == -1) return;
    if (value.kind() != JsonValue::Kind::kUint || value.Uint() > kMaxVocabulary) {
      ThrowConfigValue(file, key, value.ToString(), "the id of a token, or a list of ids");
    }
    ids.push_back(static_cast<uint32_t>(value.Uint()));
  };
  const auto value = Present(object, key);
  if (!value) return ids;
  if (!value->is_array()) {
    add(*value);
    return ids;
  }
  if (value->size() > kMaxIds) {
    ThrowConfigValue(file, key, value->ToString(), "a few ids");
  }
  for (const auto& item : value->items()) add(item.value);
  return ids;
}

std::optional<uint32_t> FirstOf(const std::vector<uint32_t>& ids) {
  return ids.empty() ? std::nullopt : std::optional(ids.front());
}

}  // namespace

HfConfig ParseHfConfig(std::string_view text, std::string_view file) {
  const JsonValue object = ParseJsonObject(text, file, "the members of a configuration");
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
    const bool is_stated = Present(object, "head_dim").has_value();
    ThrowConfigValue(file, is_stated ? "head_dim" : "num_attention_heads",
                     std::to_string(is_stated ? config.head_dim : config.n_heads),
                     is_stated ? "an even number"
                               : "heads of even size, not " + std::to_string(config.head_dim));
  }
  if (config.n_heads % config.n_kv_heads != 0) {
    ThrowConfigValue(file, "num_key_value_heads", std::to_string(config.n_kv_heads),
                     "a divisor of num_attention_heads " + std::to_string(config.n_heads));
  }
  return config;
}

HfTokenIds ParseHfTokenIds(std::string_view text, std::string_view file) {
  const JsonValue object = ParseJsonObject(text, file, "the members of a configuration");
  return {FirstOf(TokenIds(object, "bos_token_id", file)),
          FirstOf(TokenIds(object, "pad_token_id", file)), TokenIds(object, "eos_token_id", file),
          OptionalBool(object, "_from_model_config", file).value_or(false)};
}

}  // namespace quern
