// The vocabulary of a Hugging Face folder: a tokenizer.model or tokenizer.json, and what the side
// files add to it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "converters/faults.h"
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

struct HfTokenizer {
  Tokenizer tokenizer;         // as long as the files make it
  std::string file;            // where the vocabulary itself comes from
  uint64_t n_own_tokens = 0;   // of the vocabulary itself, without those that were added
  uint64_t max_padding = 0;    // for PadTokenizer
};

// Returns the vocabulary.
//
// tokenizer.model decides if it is SentencePiece, else tokenizer.json. Added tokens come from
// added_tokens.json, then tokenizer.json, then tokenizer_config.json; those that a side file names
// as special are control tokens. Which token begins or ends a text, is unknown or pads, say, the
// first that does: tokenizer_config.json and special_tokens_map.json by text, generation_config.json
// and config.json by id, the vocabulary itself. (What contradicts the vocabulary's own special tokens
// is left out with a warning.) Further ends of generation_config.json become the ends of a turn and
// of a message. The chat template is copied as it is. See HF.md.
// Throws: Error kData "hf.tokenizer-missing", and as ReadMetaTokenizer, ParseTokenizerJson and
// PutAddedTokens.
HfTokenizer ReadHfTokenizer(HfTokenizerFiles files, const std::string& folder, Faults& faults);

// Makes the vocabulary as long as the embedding has rows. Added tokens behind the last row are left
// out with a warning: they were never trained.
// Throws: as PadTokenizer.
void FitHfTokenizer(HfTokenizer& vocabulary, uint64_t n_rows, Faults& faults);

}  // namespace quern
