// The steps around the vocabulary of a tokenizer.json: how text is changed and cut before it is
// looked up, and what is put around it. A GGUF has names for a few of all ways, so each step is
// compared with them exactly, and refused by name otherwise.
// Source: serialized forms of huggingface/tokenizers (normalizers, pre_tokenizers, processors).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "formats/core/error.h"
#include "formats/json_limits.h"

namespace quern {

// Returns true if a space is put before a text for a SentencePiece vocabulary. The steps must mark
// spaces by '▁' and do nothing else.
// Throws: Error kUnsupported "tokenizer.normalizer", "tokenizer.pre-tokenizer"; kData
// "config.value".
bool ReadSpmSteps(const JsonValue& tokenizer, std::string_view file);

// Returns llama.cpp's name for the way in which text is cut for a byte-level vocabulary: "llama-bpe"
// (Llama 3's pattern) or "gpt-2".
// Throws: as ReadSpmSteps.
std::string ReadByteLevelSteps(const JsonValue& tokenizer, std::string_view file);

// The tokens that are put before and behind every text.
struct TextTemplate {
  std::optional<std::string> before, behind;
};
// Throws: Error kUnsupported "tokenizer.post-processor"; kData "config.value".
TextTemplate ReadTemplate(const JsonValue& tokenizer, std::string_view file);

// Returns the error for a part of a tokenizer.json that is valid and not read.
Error UnsupportedStep(std::string_view id, std::string_view what, std::string_view file,
                      std::string_view key, std::string_view found);

// Returns the member if it is an object; nothing if it is absent or null.
// Throws: Error kData "config.value".
std::optional<JsonValue> OptionalObject(const JsonValue& parent, std::string_view key,
                                        std::string_view file);

}  // namespace quern
