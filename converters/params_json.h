// params.json of Meta's releases, and the numbers that follow from it by Meta's rules.
// Source: ModelArgs in llama/model.py of meta-llama/llama and meta-llama/llama3; ModelArgs in
// models/llama3/args.py of meta-llama/llama-models.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace quern {

struct MetaParams {
  uint32_t dim = 0;
  uint32_t n_layers = 0;
  uint32_t n_heads = 0;
  std::optional<uint32_t> n_kv_heads;   // absent: n_heads
  std::optional<uint32_t> vocab_size;   // absent or -1: as many as the embedding has rows
  uint32_t multiple_of = 256;           // Meta's default
  std::optional<double> ffn_dim_multiplier;
  double norm_eps = 1e-5;               // Meta's default
  std::optional<double> rope_theta;     // absent: 10,000; with a tiktoken vocabulary 500,000
  bool use_scaled_rope = false;         // Meta's default
  std::optional<uint32_t> max_seq_len;  // only third-party files have it

  uint32_t head_dim() const { return dim / n_heads; }
};

// Returns the parameters; keys may be nested in an object "model"; unknown keys are ignored.
// Throws: Error kData "config.value" that names key and value, "json.*"; kUnsupported
// "meta.release" for vision, mixture-of-experts and int4 releases.
MetaParams ParseMetaParams(std::string_view text, std::string_view file);

// Returns the rows of the feed-forward matrices by Meta's formula.
// Source: FeedForward.__init__ in llama/model.py; the truncations are part of it.
uint64_t FeedForwardRows(const MetaParams& params);

// What decides the rules below besides params.json.
struct MetaRuleInputs {
  bool tiktoken_vocabulary = false;  // Llama 3 and later
  bool bfloat16_weights = false;     // Llama 2 and later; LLaMA 1 is float16
};

// Returns the base of the rotation angles: the stated one, else the default of the generation.
double RopeThetaOf(const MetaParams& params, const MetaRuleInputs& inputs);

struct ContextLength {
  uint32_t length = 0;
  std::string rule;  // "rule: llama 2 (norm_eps 1e-5)"; empty where it was requested or is stated
  bool is_doubtful = false;  // the rule guesses what the files contradict
};
// Returns the context length, which Meta's releases do not store: `requested` (--context), else
// max_seq_len, else the first rule of a table that fits.
ContextLength ContextLengthOf(const MetaParams& params, const MetaRuleInputs& inputs,
                              std::optional<uint32_t> requested);

// Returns the factor by which use_scaled_rope stretches long wavelengths: 32 for Llama 3.2 1B and
// 3B, which only their shape tells (their params.json and Meta's reference code do not), else 8.
// Source: config.json of the 1B and 3B; issues 166 and 241 of meta-llama/llama-models.
double RopeScalingFactor(const MetaParams& params);

}  // namespace quern
