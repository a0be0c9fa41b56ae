// Vocabularies of Meta's releases: a SentencePiece model (Llama 1, 2, Code Llama) or a tiktoken file
// of ranks (Llama 3 and later), as the Tokenizer that a GGUF stores.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "formats/core/bytes.h"
#include "formats/core/tokenizer.h"

namespace quern {

// Which names the special tokens of a tiktoken vocabulary have: the file does not say.
enum class TiktokenNames : uint8_t {
  kLlama3,   // reserved names for all that Llama 3.0 does not use
  kLlama31,  // Llama 3.1 and later, as in Hugging Face's tokenizer.json
};

// Returns the vocabulary in `bytes`, whichever of the two kinds it is.
// Throws: Error kData "tokenizer.format" if it is neither; else as the two readers.
Tokenizer ReadMetaTokenizer(ByteView bytes, std::string_view file, TiktokenNames names);

// Returns true if the first line has the form of a tiktoken rank.
bool LooksLikeTiktoken(ByteView bytes);

// Returns a byte-level BPE vocabulary: the ranks in GPT-2's printable spelling, then 256 special
// tokens, with every merge that the ranks imply.
// Throws: Error kData "tiktoken.*" naming the line.
Tokenizer ReadTiktokenModel(ByteView bytes, std::string_view file, TiktokenNames names);

// Returns GPT-2's printable spelling of `bytes`, in UTF-8.
// Source: encoder.py of openai/gpt-2, bytes_to_unicode.
std::string ByteLevelText(std::string_view bytes);

// Sets the ids of Code Llama's infilling tokens, which are known by their text alone.
// Source: llama/tokenizer.py of meta-llama/codellama.
void FindInfillTokens(Tokenizer& tokenizer);

// Makes the vocabulary as long as the embedding has rows: rows beyond the last token get the text
// "[PAD<id>]", the type kUnused and (where there are scores) the score -10000, as llama.cpp's
// converter gives them.
// Throws: Error kData "tokenizer.too-long" if there are more tokens than rows.
void PadTokenizer(Tokenizer& tokenizer, uint64_t n_rows, std::string_view file);

}  // namespace quern
