// How byte-level BPE cuts text into words before it merges.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace quern {

// One row of the table of pre-tokenizers that quern knows.
struct PreTokenizer {
  std::array<std::string_view, 3> names;  // tokenizer.ggml.pre; empty where there are fewer
  // A word at the beginning of the text, in PCRE2's syntax: alternatives, tried in order. (White_Space
  // is \s and U+0085, which PCRE2 leaves out of \s.)
  const char* word_pattern;
  // Of a run of white space, everything up to its last line end is one word.
  bool newlines_end_words;
  bool whole_words_first;  // a word that is a token is not merged ("ignore_merges")
  bool adds_bos;           // where the vocabulary does not say
};

// Returns the row with that name, or null.
const PreTokenizer* FindPreTokenizer(std::string_view name);

// Cuts text into words by one row of the table. Bytes that are no UTF-8 end a word and stand alone.
// (llama.cpp puts U+FFFD in their place; here a text keeps its bytes.)
class WordSplitter {
 public:
  explicit WordSplitter(const PreTokenizer& pre);
  ~WordSplitter();

  // Returns the words; together they are `text`.
  // Cost: linear in the text. Runs of white space never reach the pattern matcher, which gives up
  // on long ones.
  // Throws: Error kData "text.tokenize" where the matcher gives up.
  std::vector<std::string_view> Split(std::string_view text) const;

 private:
  struct Pattern;
  const PreTokenizer& pre_;
  std::unique_ptr<Pattern> pattern_;
};

}  // namespace quern
