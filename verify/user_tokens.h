// Tokens that are recognised in text before any other rule: those of type kUserDefined.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "formats/core/tokenizer.h"

namespace quern {

// A run of text: either one user-defined token, or raw text between such tokens.
struct TextFragment {
  std::string_view text;
  int32_t token = -1;  // the token's id, or -1 for raw text
};

// Cuts text at user-defined tokens: longer tokens first (then smaller ids), each from left to right
// in what is still raw.
// Source: llama.cpp, partition by special tokens.
class UserTokens {
 public:
  // Requires: `tokenizer` outlives the object.
  explicit UserTokens(const Tokenizer& tokenizer);

  // Returns the fragments in order, none empty; they point into `text`.
  // Cost: the text's length times the number of user-defined tokens.
  std::vector<TextFragment> Split(std::string_view text) const;

 private:
  std::vector<TextFragment> tokens_;  // by decreasing length
};

}  // namespace quern
