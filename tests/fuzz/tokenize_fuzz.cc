// Any vocabulary and any text: both encoders give ids whose texts, joined, are the text again.
//
// Input: a byte that chooses the kind; lines of tokens (or merges "left right") up to a NUL; the text.
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "converters/tokenizer_import.h"
#include "formats/core/error.h"
#include "tests/fuzz/require.h"
#include "verify/tokenize.h"

namespace quern {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

void Add(Tokenizer& tokenizer, std::string_view token, TokenType type) {
  tokenizer.tokens.push_back(token);
  tokenizer.scores.push_back(-static_cast<float>(tokenizer.tokens.size() % 5));
  tokenizer.types.push_back(type);
}

Tokenizer Vocabulary(uint8_t kind, std::string_view lines) {
  Tokenizer tokenizer;
  const bool spm = kind % 3 == 0;
  tokenizer.kind = spm ? Tokenizer::Kind::kSentencePiece : Tokenizer::Kind::kBytePair;
  tokenizer.pre = kind % 3 == 1 ? "llama-bpe" : "gpt-2";
  tokenizer.add_space_prefix = false;
  for (unsigned byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof(name), "<0x%02X>", byte);
    Add(tokenizer, spm ? std::string(name) : ByteLevelText(std::string(1, static_cast<char>(byte))),
        spm ? TokenType::kByte : TokenType::kNormal);
  }
  if (!spm) tokenizer.merges.push_back("a b");
  while (!lines.empty()) {
    const size_t end = std::min(lines.find('\n'), lines.size());
    std::string line(lines.substr(0, end));
    lines.remove_prefix(std::min(end + 1, lines.size()));
    if (line.empty()) continue;
    const bool user = line[0] == '\x01';
    if (!spm && !user) {
      const size_t space = line.find(' ', 1);
      if (space != std::string::npos) tokenizer.merges.push_back(line);
      if (space != std::string::npos) line.erase(space, 1);
    }
    Add(tokenizer, user ? line.substr(1) : line, user ? TokenType::kUserDefined : TokenType::kNormal);
  }
  return tokenizer;
}

// Spaces and their mark look alike once they are tokens.
std::string Marked(std::string_view text) {
  std::string marked;
  for (const char c : text) {
    if (c == ' ') {
      marked += kSpaceMark;
    } else {
      marked.push_back(c);
    }
  }
  return marked;
}

}  // namespace
}  // namespace quern

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quern;
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t nul = std::min(input.find('\0'), input.size());
  const std::string_view text = input.substr(std::min(nul + 1, input.size()));
  const Tokenizer tokenizer = Vocabulary(data[0], input.substr(0, nul));
  try {
    const auto ids = Tokenize(tokenizer, text, false);
    const bool spm = tokenizer.kind == Tokenizer::Kind::kSentencePiece;
    std::string joined;
    for (const int32_t id : ids) {
      fuzz::Require(id >= 0 && static_cast<size_t>(id) < tokenizer.tokens.size());
      const auto index = static_cast<size_t>(id);
      if (index < 256) {
        joined.push_back(static_cast<char>(id));
      } else if (spm || tokenizer.types[index] == TokenType::kUserDefined) {
        joined += tokenizer.tokens[index];
      } else {
        // Only the number of bytes: every character of the token stands for one.
        for (const char c : tokenizer.tokens[index]) joined += (c & 0xC0) == 0x80 ? "" : "?";
      }
    }
    if (spm) {
      fuzz::Require(Marked(joined) == Marked(text));
    } else {
      fuzz::Require(joined.size() == text.size());
    }
  } catch (const Error&) {
  }
  return 0;
}
