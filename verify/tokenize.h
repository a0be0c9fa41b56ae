// Text to token ids, as llama.cpp does it, for the vocabularies of Llama models.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "formats/core/tokenizer.h"

namespace quern {

// A vocabulary prepared for encoding; made once, used for any number of texts, from any thread.
//
// Text is bytes: no newline, BOM or Unicode translation happens before the vocabulary's own rules.
// Control tokens are never recognised in text ("<s>" is three characters); user-defined ones are.
class TextTokenizer {
 public:
  // Throws: Error kUnsupported "tokenizer.none", "tokenizer.kind" or "tokenizer.pre" where the
  // vocabulary is absent or of a kind that quern cannot encode with; kData "tokenizer.vocabulary"
  // where it contradicts itself. Errors carry no file name: the caller adds it.
  // Requires: `tokenizer` outlives the object.
  explicit TextTokenizer(const Tokenizer& tokenizer);
  ~TextTokenizer();
  TextTokenizer(TextTokenizer&&) noexcept;
  TextTokenizer& operator=(TextTokenizer&&) noexcept;

  // Returns the ids of `text`; with `add_special` the beginning and end tokens are added where the
  // vocabulary asks for them. An empty text gives the special tokens only.
  // Cost: linear in the text for SentencePiece, up to a logarithm; linear memory.
  // Throws: Error kData "text.tokenize" where a text cannot be encoded.
  std::vector<int32_t> Encode(std::string_view text, bool add_special) const;

  // The token put first, or nothing where the vocabulary adds none.
  std::optional<int32_t> begin_token() const;
  // The token put last, or nothing.
  std::optional<int32_t> end_token() const;

  // What the kinds of vocabulary implement.
  class Encoder {
   public:
    virtual ~Encoder() = default;
    // Appends the ids of `text` without special tokens.
    virtual void Encode(std::string_view text, std::vector<int32_t>& ids) const = 0;
  };

 private:
  std::unique_ptr<Encoder> encoder_;
  std::optional<int32_t> begin_token_, end_token_;
};

// Returns TextTokenizer(tokenizer).Encode(text, add_special).
std::vector<int32_t> Tokenize(const Tokenizer& tokenizer, std::string_view text, bool add_special);

}  // namespace quern
