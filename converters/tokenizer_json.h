// tokenizer.json of Hugging Face's tokenizers library, as the Tokenizer that a GGUF stores: the two
// kinds that Llama models have.
// Source: huggingface/tokenizers (the serialized form of its BPE model); convert_slow_tokenizer.py
// of transformers, which makes these files of tokenizer.model.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "converters/tokenizer_steps.h"
#include "formats/core/tokenizer.h"

namespace quern {

// A token that was put beside the vocabulary.
struct AddedToken {
  uint32_t id = 0;
  bool special = false;  // control, not text
  std::string text;
};

// Added tokens, of which the last with an id counts.
class AddedTokens {
 public:
  void Add(AddedToken token) { tokens_.push_back(std::move(token)); }
  void Append(AddedTokens other);
  // Returns one for each id, by rising ids. Requires: nothing is added afterwards.
  const std::vector<AddedToken>& Sorted();
  bool empty() const { return tokens_.empty(); }

 private:
  std::vector<AddedToken> tokens_;
};

// The parts of a tokenizer.json.
struct TokenizerJson {
  // The vocabulary itself. Its tokens that are among the added ones have the types that those say;
  // holes between ids are unused tokens "[PAD<id>]".
  Tokenizer tokenizer;
  AddedTokens added;
  TextTemplate text_template;
};

// Returns the parts of `text`.
//
// With byte_fallback (Llama 1, 2): a vocabulary of kind kSentencePiece. SentencePiece's scores
// follow from the order of the merges; the merges must be all splits of the tokens, as they are
// where the file was made of a tokenizer.model. Without (Llama 3): a byte-level one of kind
// kBytePair, with its merges.
// Throws: Error kData "config.value", "tokenizer.id", "tokenizer.byte-missing", "tokenizer.merge",
// "json.*"; kUnsupported "tokenizer.algorithm", "tokenizer.merges", "tokenizer.token-length", and as
// the functions of tokenizer_steps.h, each naming what is not read.
TokenizerJson ParseTokenizerJson(std::string_view text, std::string_view file);

// Returns the whole vocabulary in `text`: the parts put together.
// Throws: as ParseTokenizerJson, PutAddedTokens and SetTemplate.
Tokenizer ReadTokenizerJson(std::string_view text, std::string_view file);

// Returns the added tokens of a tokenizer.json alone.
// Throws: Error kData "config.value", "json.*".
AddedTokens ReadAddedTokens(std::string_view text, std::string_view file);

// Puts added tokens into a vocabulary: those that have the same text at the same id stay as they
// are, others replace the token with that id or lengthen the vocabulary.
// Throws: Error kData "tokenizer.id" where the ids leave a gap far behind the vocabulary,
// "tokenizer.duplicate-token", "tokenizer.token" (a NUL byte in it).
void PutAddedTokens(AddedTokens added, std::string_view file, Tokenizer& tokenizer);

// Sets the first and last token that the template puts around a text.
// Throws: Error kData "config.value" if the vocabulary lacks one.
void SetTemplate(const TextTemplate& text_template, std::string_view file, Tokenizer& tokenizer);

}  // namespace quern
