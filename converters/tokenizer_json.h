// tokenizer.json of Hugging Face's tokenizers library, as the Tokenizer that a GGUF stores: the two
// kinds that Llama models have.
// Source: facts of huggingface/tokenizers' BPE model and of transformers'
// convert_slow_tokenizer.py.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "formats/core/tokenizer.h"

namespace quern {

// A token that was put beside the vocabulary.
struct AddedToken {
  std::string text;
  bool special = false;  // control, not text
};
using AddedTokens = std::map<uint32_t, AddedToken>;  // by id

// Returns the vocabulary in `text`.
//
// With byte_fallback (Llama 1, 2): a vocabulary of kind kSentencePiece. SentencePiece's scores
// follow from the order of the merges; the merges must be all splits of the tokens, as they are
// where the file was made of a tokenizer.model. With a ByteLevel pre-tokenizer (Llama 3): one of
// kind kBytePair, with its merges. Holes between ids become unused tokens "[PAD<id>]". Throws:
// Error kData "config.value", "tokenizer.id", "tokenizer.duplicate-token", "tokenizer.merge",
// "json.*"; kUnsupported "tokenizer.algorithm", "tokenizer.normalizer", "tokenizer.pre-tokenizer",
// "tokenizer.merges", each naming what is not read.
Tokenizer ReadTokenizerJson(std::string_view text, std::string_view file);

// Returns the added tokens of a tokenizer.json alone.
// Throws: Error kData "config.value", "json.*".
AddedTokens ReadAddedTokens(std::string_view text, std::string_view file);

// Puts added tokens into a vocabulary: those that have the same text at the same id stay as they
// are, others replace the token with that id or lengthen the vocabulary. Throws: Error kData
// "tokenizer.id" where the ids leave a gap far behind the vocabulary, "tokenizer.duplicate-token".
void PutAddedTokens(const AddedTokens& added, std::string_view file, Tokenizer& tokenizer);

}  // namespace quern
