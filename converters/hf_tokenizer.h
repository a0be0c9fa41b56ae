// The vocabulary of a Hugging Face folder: a tokenizer.model or tokenizer.json, and what the side
// files add to it.
#pragma once

#include <optional>
#include <string>

#include "formats/core/tokenizer.h"

namespace quern {

// A side file that was read whole.
struct TextFile {
  std::string path, text;
};

// Whatever of these the folder has.
struct HfTokenizerFiles {
  std::optional<TextFile> tokenizer_model;     // tokenizer.model
  std::optional<TextFile> tokenizer_json;      // tokenizer.json
  std::optional<TextFile> tokenizer_config;    // tokenizer_config.json
  std::optional<TextFile> special_tokens_map;  // special_tokens_map.json
  std::optional<TextFile> added_tokens;        // added_tokens.json
  std::optional<TextFile> generation_config;   // generation_config.json
  std::optional<TextFile> config;              // config.json
  std::optional<TextFile> chat_template;       // chat_template.jinja
};

// Returns the vocabulary, as long as the files make it.
//
// tokenizer.model decides if it is SentencePiece, else tokenizer.json. Added tokens come from
// added_tokens.json, then tokenizer.json, then tokenizer_config.json. Special tokens by their text
// from tokenizer_config.json, then special_tokens_map.json; what is still open by id from the
// vocabulary itself, generation_config.json, config.json. The chat template is copied as it is.
// Throws: Error kData "hf.tokenizer-missing", and as ReadMetaTokenizer and ReadTokenizerJson.
Tokenizer ReadHfTokenizer(const HfTokenizerFiles& files, const std::string& folder);

}  // namespace quern
