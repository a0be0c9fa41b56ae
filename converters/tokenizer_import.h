// Vocabularies of Meta's releases: a SentencePiece model (Llama 1, 2, Code Llama) or a tiktoken file
// of ranks (Llama 3 and later), as the Tokenizer that a GGUF stores.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "converters/faults.h"
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

// Returns the id of the token with that text, or nothing. Cost: linear.
std::optional<uint32_t> FindToken(const Tokenizer& tokenizer, std::string_view text);

// How many rows of the embedding may be without a token: embeddings are padded for speed.
inline constexpr uint64_t kMaxPaddingTokens = 65536;
// The same for a tiktoken file, whose special tokens stand right behind its ranks: where lines are
// missing, they all have wrong ids. Padding is to multiples of at most 256.
inline constexpr uint64_t kMaxTiktokenPadding = 255;
// The score of a token that pads, and its text "[PAD<id>]", as llama.cpp's converter gives them.
inline constexpr float kPaddingScore = -10000.0f;
std::string PaddingToken(uint64_t id);

// Makes the vocabulary as long as the embedding has rows, with a warning: rows beyond the last token
// get a padding token of type kUnused.
// Throws: Error kData "tokenizer.too-long" if there are more tokens than rows, "tokenizer.too-short"
// if more than `max_padding` are missing: then the vocabulary is cut off or of another model.
void PadTokenizer(Tokenizer& tokenizer, uint64_t n_rows, uint64_t max_padding,
                  std::string_view file, Faults& faults);

}  // namespace quern
