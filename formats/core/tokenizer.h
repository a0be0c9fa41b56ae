// A vocabulary with its rules, as data. verify/ turns text into ids with it; formats/gguf_metadata
// stores it.
// Source: SentencePiece's sentencepiece_model.proto; the tokenizer.ggml.* keys of GGUF.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/core/string_list.h"

namespace quern {

// The numbers of SentencePiece and GGUF alike.
enum class TokenType : int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

struct Tokenizer {
  enum class Kind : uint8_t {
    kNone,           // no vocabulary
    kSentencePiece,  // BPE by score with byte fallback (GGUF "llama")
    kBytePair,       // byte-level BPE by merge rank (GGUF "gpt2")
    kOther,          // another tool's: carried along, cannot tokenize
  };
  Kind kind = Kind::kNone;
  std::string model_name;        // tokenizer.ggml.model as read, for kOther
  std::string pre;               // pre-tokenizer: "default", "llama-bpe", …
  StringList tokens;             // id = index
  std::vector<float> scores;     // empty, or one per token
  std::vector<TokenType> types;  // empty, or one per token
  StringList merges;             // kBytePair: "left right", in rank order
  std::optional<uint32_t> bos_id, eos_id, unk_id, pad_id, eot_id, eom_id;
  std::optional<uint32_t> fim_prefix_id, fim_suffix_id, fim_middle_id;
  std::optional<bool> add_bos, add_eos, add_space_prefix;
  std::string chat_template;  // opaque; empty if none

  bool operator==(const Tokenizer&) const = default;
};

}  // namespace quern
