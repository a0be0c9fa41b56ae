// Vocabularies and known encodings for tests.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/core/tokenizer.h"

namespace quern {

// Returns <unk>, <s>, </s> and the 256 byte tokens (3…258), SentencePiece's kind.
Tokenizer ByteVocabulary();

// Returns the path of an asset that is not committed: under $QUERN_ASSETS, or beside the source.
std::string AssetPath(const std::string& name);

// Returns the bytes of an asset, or nothing where it is not there.
std::optional<std::string> ReadAsset(const std::string& name);

// Returns the vocabulary of Llama 2, or nothing where its file is not there.
std::optional<Tokenizer> Llama2Vocabulary();

// A run that a hostile text may have. Sanitizers take ten times as long, so there it is shorter.
#ifdef NDEBUG
inline constexpr size_t kLongRun = 20'000'000;
#else
inline constexpr size_t kLongRun = 2'000'000;
#endif

// Returns `n` bytes, each as likely as any other; the same for the same `seed`.
std::string RandomBytes(size_t n, uint64_t seed);

struct TextAndIds {
  std::string text;
  std::vector<int32_t> ids;
};
// Returns the texts of llama.cpp's file NAME.inp with the ids of NAME.out; empty where they are not
// there.
std::vector<TextAndIds> ReadVectors(const std::string& name);

}  // namespace quern
