// tokenizer.json. Beyond "no crash": what is read has one type (and score) per token, no token twice
// and none with a NUL byte, and merges of two parts with one space between.
#include <cstdint>
#include <set>
#include <string>

#include "converters/tokenizer_json.h"
#include "formats/core/error.h"
#include "tests/fuzz/require.h"

using quern::fuzz::Require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quern;
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const Tokenizer tokenizer = ReadTokenizerJson(text, "fuzz.json");
    const size_t n = tokenizer.tokens.size();
    Require(n > 0 && tokenizer.types.size() == n);
    const bool is_spm = tokenizer.kind == Tokenizer::Kind::kSentencePiece;
    Require(is_spm ? tokenizer.scores.size() == n : tokenizer.scores.empty());
    std::set<std::string_view> tokens;
    for (size_t id = 0; id < n; ++id) {
      Require(tokens.insert(tokenizer.tokens[id]).second);
      Require(tokenizer.tokens[id].find('\0') == std::string_view::npos);
    }
    for (const auto& id : {tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id}) {
      Require(!id || *id < n);
    }
    for (size_t i = 0; i < tokenizer.merges.size(); ++i) {
      const std::string_view merge = tokenizer.merges[i];
      const size_t space = merge.find(' ', 1);
      Require(space != merge.npos && space + 1 < merge.size());
      Require(merge.find(' ', space + 1) == merge.npos);
    }
  } catch (const Error& error) {
    Require(error.code() == ErrorCode::kData || error.code() == ErrorCode::kUnsupported);
    Require(error.has_file());
  }
  return 0;
}
