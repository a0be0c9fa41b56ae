// Byte-level BPE: words, then merges by rank.
#pragma once

#include <memory>

#include "verify/pre_tokenizer.h"
#include "verify/tokenize.h"

namespace quern {

// Returns the encoder for a vocabulary of Kind::kBytePair. What a text's bytes become:
//
//   1. User-defined tokens are cut out (user_tokens.h).
//   2. Raw text is cut into words (pre_tokenizer.h).
//   3. A word that is a token is that token, where the pre-tokenizer says so.
//   4. Otherwise its bytes merge: always the adjacent pair of lowest rank, the leftmost among equals.
//   5. What is no token then becomes one token per byte.
//
// Throws: as TextTokenizer's constructor. Requires: `tokenizer` and `pre` outlive the encoder.
// Source: llama.cpp's tokenizer for `tokenizer.ggml.model` = "gpt2"; OpenAI's tiktoken.
std::unique_ptr<TextTokenizer::Encoder> MakeBpeEncoder(const Tokenizer& tokenizer,
                                                       const PreTokenizer& pre);

}  // namespace quern
