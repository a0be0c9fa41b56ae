// SentencePiece's BPE: adjacent pieces merge by score, unknown characters fall back to bytes.
#pragma once

#include <memory>

#include "verify/tokenize.h"

namespace quern {

// Returns the encoder for a vocabulary of Kind::kSentencePiece. What a text's bytes become:
//
//   1. User-defined tokens are cut out (user_tokens.h).
//   2. Raw text at the beginning or behind such a token gets a space in front (add_space_prefix,
//      by default true); every space becomes "▁" (U+2581).
//   3. It is cut into characters; a character's length follows from its first byte alone, so that
//      bytes which are no UTF-8 pass through unharmed.
//   4. The adjacent pair whose concatenation is the token of highest score (the leftmost among
//      equals) merges, until no pair is a token.
//   5. What is no token becomes one byte token "<0xNN>" per byte, or the unknown token where the
//      vocabulary has no byte tokens.
//
// Throws: as TextTokenizer's constructor. Requires: `tokenizer` outlives the encoder.
// Source: llama.cpp's tokenizer for `tokenizer.ggml.model` = "llama"; SentencePiece's bpe_model.
std::unique_ptr<TextTokenizer::Encoder> MakeSpmEncoder(const Tokenizer& tokenizer);

}  // namespace quern
