#include "verify/pre_tokenizer.h"

#include <algorithm>
#include <string>

#include "formats/core/check.h"
#include "formats/core/error.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace quern {
namespace {

// Llama 3's. Source: "cl100k"-style pattern of Meta's llama3/tokenizer.py, with the group (?i:…)
// spelled out as llama.cpp does.
constexpr const char* kLlama3Pattern =
    "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
    "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
    "|\\p{N}{1,3}"
    "| ?[^\\s\\x{85}\\p{L}\\p{N}]+[\\r\\n]*"
    "|[\\s\\x{85}]";

// GPT-2's. Source: openai/gpt-2, src/encoder.py.
constexpr const char* kGpt2Pattern =
    "'s|'t|'re|'ve|'m|'ll|'d"
    "| ?\\p{L}+"
    "| ?\\p{N}+"
    "| ?[^\\s\\x{85}\\p{L}\\p{N}]+"
    "|[\\s\\x{85}]";

constexpr std::array<PreTokenizer, 2> kPreTokenizers = {{
    {{"llama-bpe", "llama3", "llama-v3"}, kLlama3Pattern, true, true, true},
    {{"gpt-2", "mpt", "olmo"}, kGpt2Pattern, false, false, false},
}};

// Returns the bytes of the white-space character at text[at], or 0 if there is none.
// Source: Unicode's property White_Space.
size_t WhiteSpaceBytes(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) -> unsigned {
    return at + i < text.size() ? static_cast<uint8_t>(text[at + i]) : 0u;
  };
  const unsigned lead = byte(0);
  if ((lead >= 0x09 && lead <= 0x0D) || lead == 0x20) return 1;
  if (lead == 0xC2) return byte(1) == 0x85 || byte(1) == 0xA0 ? 2 : 0;
  const unsigned rest = byte(1) << 8 | byte(2);
  if (lead == 0xE1) return rest == 0x9A80 ? 3 : 0;  // U+1680
  if (lead == 0xE3) return rest == 0x8080 ? 3 : 0;  // U+3000
  if (lead == 0xE2) {  // U+2000…200A, 2028, 2029, 202F, 205F
    const bool is_space = (rest >= 0x8080 && rest <= 0x808A) || rest == 0x80A8 || rest == 0x80A9 ||
                          rest == 0x80AF || rest == 0x819F;
    return is_space ? 3 : 0;
  }
  return 0;
}

}  // namespace

const PreTokenizer* FindPreTokenizer(std::string_view name) {
  if (name.empty()) return nullptr;
  for (const PreTokenizer& pre : kPreTokenizers) {
    if (std::find(pre.names.begin(), pre.names.end(), name) != pre.names.end()) return &pre;
  }
  return nullptr;
}

struct WordSplitter::Pattern {
  explicit Pattern(const char* text) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text), PCRE2_ZERO_TERMINATED,
                         PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &offset, nullptr);
    QUERN_CHECK(code != nullptr);
    // Without the compiler to machine code the interpreter does the same, slower.
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  }
  ~Pattern() { pcre2_code_free(code); }
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;

  pcre2_code* code;
};

WordSplitter::WordSplitter(const PreTokenizer& pre)
    : pre_(pre), pattern_(std::make_unique<Pattern>(pre.word_pattern)) {}
WordSplitter::~WordSplitter() = default;

namespace {

// A run of white space that begins at `begin`.
struct SpaceRun {
  size_t n_chars = 0;
  size_t end = 0;            // behind its last character
  size_t last_begin = 0;     // where its last character begins
  size_t behind_newline = 0; // behind its last line end, or 0
};

SpaceRun FindSpaceRun(std::string_view text, size_t begin) {
  SpaceRun run;
  run.end = begin;
  while (const size_t bytes = WhiteSpaceBytes(text, run.end)) {
    ++run.n_chars;
    run.last_begin = run.end;
    run.end += bytes;
    if (text[run.last_begin] == '\n' || text[run.last_begin] == '\r') run.behind_newline = run.end;
  }
  return run;
}

// Returns the bytes of the word at the beginning of `text`, by the pattern.
// Requires: `text` is well-formed UTF-8, and not empty.
size_t MatchWord(const pcre2_code* code, pcre2_match_data* match, std::string_view text) {
  // The check of the whole rest, word after word, would take quadratic time.
  const int result = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                                 PCRE2_NO_UTF_CHECK, match, nullptr);
  if (result < 0) {  // No match is impossible: every character is in some alternative.
    PCRE2_UCHAR message[120] = {};
    pcre2_get_error_message(result, message, sizeof(message));
    throw DataError("text.tokenize", "the text cannot be cut into words")
        .Where("before " + Quoted(text.substr(0, 40)))
        .Found(reinterpret_cast<const char*>(message));
  }
  const size_t length = pcre2_get_ovector_pointer(match)[1];
  QUERN_CHECK(length > 0 && length <= text.size());
  return length;
}

}  // namespace

std::vector<std::string_view> WordSplitter::Split(std::string_view text) const {
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> match(
      pcre2_match_data_create_from_pattern(pattern_->code, nullptr), pcre2_match_data_free);
  QUERN_CHECK(match != nullptr);
  std::vector<std::string_view> words;
  size_t valid_end = 0;  // Up to here, from the current word on, the text is UTF-8.
  for (size_t begin = 0; begin < text.size();) {
    if (begin >= valid_end) {
      size_t bad = text.size() - begin;
      IsUtf8(text.substr(begin), &bad);
      valid_end = begin + bad;
    }
    const SpaceRun run = FindSpaceRun(text, begin);
    size_t end = 0;
    if (run.n_chars > 0 && run.behind_newline > 0 && pre_.newlines_end_words) {
      end = run.behind_newline;  // \s*[\r\n]+
    } else if (run.n_chars > 0 && run.end == text.size()) {
      end = run.end;             // \s+(?!\S) at the text's end
    } else if (run.n_chars > 1) {
      end = run.last_begin;      // \s+(?!\S): the last one may belong to the next word
    } else if (begin == valid_end) {
      end = begin + 1;           // a byte that is no UTF-8
    } else {
      end = begin +
            MatchWord(pattern_->code, match.get(), text.substr(begin, valid_end - begin));
    }
    words.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  return words;
}

}  // namespace quern
