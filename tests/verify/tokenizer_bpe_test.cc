#include "verify/tokenizer_bpe.h"

#include <gtest/gtest.h>

#include <string>

#include "converters/tokenizer_import.h"
#include "formats/core/error.h"
#include "tests/verify/vocabularies.h"
#include "verify/pre_tokenizer.h"
#include "verify/tokenize.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace quern {
namespace {

using Ids = std::vector<int32_t>;
using Words = std::vector<std::string>;

Words SplitBy(const char* pre, std::string_view text) {
  Words words;
  for (const std::string_view word : WordSplitter(*FindPreTokenizer(pre)).Split(text)) {
    words.emplace_back(word);
  }
  return words;
}

TEST(WordSplitter, Llama3ByHand) {
  EXPECT_EQ(SplitBy("llama-bpe", "Hello world"), (Words{"Hello", " world"}));
  EXPECT_EQ(SplitBy("llama-bpe", "I'LL can't"), (Words{"I", "'LL", " can", "'t"}));
  EXPECT_EQ(SplitBy("llama-bpe", "12345 67.8"), (Words{"123", "45", " ", "67", ".", "8"}));
  EXPECT_EQ(SplitBy("llama-bpe", "a  b"), (Words{"a", " ", " b"}));
  EXPECT_EQ(SplitBy("llama-bpe", "a \n \n  b"), (Words{"a", " \n \n", " ", " b"}));
  EXPECT_EQ(SplitBy("llama-bpe", "a\t\tb"), (Words{"a", "\t", "\tb"}));
  EXPECT_EQ(SplitBy("llama-bpe", "a   "), (Words{"a", "   "}));
  EXPECT_EQ(SplitBy("llama-bpe", "ok?!\r\n!"), (Words{"ok", "?!\r\n", "!"}));
  EXPECT_EQ(SplitBy("llama-bpe", ""), (Words{}));
}

TEST(WordSplitter, Gpt2ByHand) {
  EXPECT_EQ(SplitBy("gpt-2", "Hello 12345  x\n\ny"),
            (Words{"Hello", " 12345", " ", " x", "\n", "\n", "y"}));
  EXPECT_EQ(SplitBy("mpt", "I'LL can't"), (Words{"I", "'", "LL", " can", "'t"}));
}

TEST(WordSplitter, BytesThatAreNoUtf8StandAlone) {
  EXPECT_EQ(SplitBy("llama-bpe", "ab\xFF\xFE" "cd"), (Words{"ab", "\xFF", "\xFE", "cd"}));
  EXPECT_EQ(SplitBy("llama-bpe", "a  \xE2\x82"), (Words{"a", " ", " ", "\xE2", "\x82"}));
  const std::string nul("a\0b", 3);
  EXPECT_EQ(SplitBy("llama-bpe", nul), (Words{"a", std::string("\0b", 2)}));
}

// The published pattern itself, applied by PCRE2 alone.
Words SplitByPattern(const char* pattern, std::string_view text) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED,
                    PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  pcre2_match_data* match = pcre2_match_data_create_from_pattern(code, nullptr);
  Words words;
  for (size_t begin = 0; begin < text.size();) {
    const int result = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                   begin, PCRE2_ANCHORED, match, nullptr);
    if (result < 0) break;
    const size_t end = pcre2_get_ovector_pointer(match)[1];
    words.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  pcre2_match_data_free(match);
  pcre2_code_free(code);
  return words;
}

TEST(WordSplitter, AgreesWithThePublishedPatternsOnRandomTexts) {
  const struct {
    const char* pre;
    const char* pattern;
  } kPublished[] = {
      {"llama-bpe",
       "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
       "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
      {"gpt-2",
       "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"}};
  const char* kPieces[] = {" ", " ", "\n", "\r", "\t", "a", "Z", "7", "!", "'", "s", "LL", "\u00A0",
                           "\u3000", "\u2028", "é", "你", "🦙", "\u0661", "\u00B2"};
  uint64_t state = 7;
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (int i = 0; i < round % 20; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      text += kPieces[(state >> 33) % std::size(kPieces)];
    }
    for (const auto& [pre, pattern] : kPublished) {
      ASSERT_EQ(SplitBy(pre, text), SplitByPattern(pattern, text)) << pre << ": " << text;
    }
  }
}

TEST(WordSplitter, LongRunsAreCut) {
  constexpr size_t kLength = 2'000'000;
  const WordSplitter splitter(*FindPreTokenizer("llama-bpe"));
  for (const char c : {' ', '\n', 'a', '!', '7', '\xFF'}) {
    const std::string text(kLength, c);
    size_t total = 0;
    for (const std::string_view word : splitter.Split(text)) total += word.size();
    EXPECT_EQ(total, kLength);
  }
  EXPECT_EQ(SplitBy("llama-bpe", std::string(kLength, ' ') + "x").size(), 2u);
}

// The 256 bytes in GPT-2's spelling as tokens 0…255 (id = byte), then merges and their tokens.
Tokenizer SmallVocabulary(std::initializer_list<std::pair<std::string, std::string>> merges) {
  Tokenizer t;
  t.kind = Tokenizer::Kind::kBytePair;
  t.pre = "llama-bpe";
  for (int byte = 0; byte < 256; ++byte) {
    t.tokens.push_back(ByteLevelText(std::string(1, static_cast<char>(byte))));
  }
  for (const auto& [left, right] : merges) {
    t.tokens.push_back(left + right);
    t.merges.push_back(left + " " + right);
  }
  t.types.assign(t.tokens.size(), TokenType::kNormal);
  t.add_bos = false;
  return t;
}

TEST(BpeTokenizer, MergesByRankThenFromTheLeft) {
  const Tokenizer t = SmallVocabulary({{"b", "c"}, {"a", "b"}, {"a", "bc"}, {"a", "a"}});
  EXPECT_EQ(Tokenize(t, "abc", false), (Ids{258}));
  EXPECT_EQ(Tokenize(t, "abab", false), (Ids{257, 257}));
  EXPECT_EQ(Tokenize(t, "aaa", false), (Ids{259, 'a'}));
}

TEST(BpeTokenizer, WholeWordsAreNotMerged) {
  Tokenizer t = SmallVocabulary({{"a", "b"}});
  t.tokens.push_back("abc");  // No merge leads to it.
  t.types.push_back(TokenType::kNormal);
  EXPECT_EQ(Tokenize(t, "abc", false), (Ids{257}));
  EXPECT_EQ(Tokenize(t, "abcd", false), (Ids{256, 'c', 'd'}));
  t.pre = "gpt-2";
  EXPECT_EQ(Tokenize(t, "abc", false), (Ids{256, 'c'}));
}

TEST(BpeTokenizer, EveryByteSurvives) {
  const Tokenizer t = SmallVocabulary({{"a", "b"}});
  std::string text;
  Ids expected;
  for (int byte = 255; byte >= 0; --byte) {
    text += static_cast<char>(byte);
    expected.push_back(byte);
  }
  // 'b' stands before 'a', so nothing merges.
  EXPECT_EQ(Tokenize(t, text, false), expected);
}

TEST(BpeTokenizer, AnyBytesTokenize) {
  const Tokenizer t = SmallVocabulary({{"a", "b"}});
  const TextTokenizer text_tokenizer(t);
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const std::string text = RandomBytes(seed * 7, seed);
    std::string again;
    for (const int32_t id : text_tokenizer.Encode(text, false)) {
      if (id == 256) {
        again += "ab";
      } else {
        again.push_back(static_cast<char>(id));
      }
    }
    ASSERT_EQ(again, text) << seed;
  }
}

TEST(BpeTokenizer, TwentyMillionSpacesTokenize) {
  const Tokenizer t = SmallVocabulary({{"Ġ", "Ġ"}, {"ĠĠ", "ĠĠ"}});
  EXPECT_EQ(Tokenize(t, std::string(kLongRun, ' '), false), Ids(kLongRun / 4, 257));
}

TEST(BpeTokenizer, UserDefinedTokensAndSpecialOnes) {
  Tokenizer t = SmallVocabulary({{"a", "b"}});
  t.tokens.push_back("<| |>");
  t.types.push_back(TokenType::kUserDefined);
  t.tokens.push_back("<s>");
  t.types.push_back(TokenType::kControl);
  t.bos_id = 258;
  t.add_bos.reset();  // llama-bpe adds it.
  EXPECT_EQ(Tokenize(t, "ab<| |><s>", true), (Ids{258, 256, 257, '<', 's', '>'}));
  t.pre = "gpt-2";
  EXPECT_EQ(Tokenize(t, "ab", true), (Ids{256}));
}

TEST(BpeTokenizer, UnusableVocabulariesAreRefused) {
  const auto id_of = [](const Tokenizer& t) -> std::string {
    try {
      Tokenize(t, "a", false);
    } catch (const Error& error) {
      return error.id();
    }
    return "accepted";
  };
  Tokenizer t = SmallVocabulary({{"a", "b"}});
  EXPECT_EQ(id_of(t), "accepted");
  t.pre = "qwen2";
  EXPECT_EQ(id_of(t), "tokenizer.pre");
  EXPECT_EQ(id_of(SmallVocabulary({})), "tokenizer.vocabulary");
  t = SmallVocabulary({{"a", "b"}});
  t.merges.push_back("ab");
  EXPECT_EQ(id_of(t), "tokenizer.vocabulary");
  Tokenizer no_bytes = SmallVocabulary({{"x", "y"}});
  no_bytes.tokens = {"x", "y"};
  EXPECT_EQ(id_of(no_bytes), "text.tokenize");
}

std::optional<Tokenizer> Llama3Vocabulary() {
  const auto bytes = ReadAsset("tokenizers/llama3/tokenizer.model");
  if (!bytes) return std::nullopt;
  return ReadTiktokenModel(AsBytes(*bytes), "tokenizer.model", TiktokenNames::kLlama3);
}

TEST(BpeTokenizer, Llama3GivesTheListedIds) {
  const auto tokenizer = Llama3Vocabulary();
  if (!tokenizer) GTEST_SKIP() << "tokenizers/llama3/tokenizer.model is not there";
  const struct {
    std::string_view text;
    Ids ids;
  } kVectors[] = {
      {"Hello world", {9906, 1917}},
      {" Hello", {22691}},
      {"  two  spaces ", {220, 1403, 220, 12908, 220}},
      {"\n\n", {271}},
      {"a\nb", {64, 198, 65}},
      {"你好", {57668, 53901}},
      {"🦙 llama", {9468, 99, 247, 94776}},
      {"\t\ttabs", {197, 3324, 3518}},
      {"12345 67.8", {4513, 1774, 220, 3080, 13, 23}},
      {"I'LL can't", {40, 6, 4178, 649, 956}},
      {"<|eot_id|>", {27, 91, 68, 354, 851, 91, 29}},
      {"This is a test sentence.", {2028, 374, 264, 1296, 11914, 13}},
  };
  const TextTokenizer text_tokenizer(*tokenizer);
  for (const auto& [text, ids] : kVectors) {
    EXPECT_EQ(text_tokenizer.Encode(text, false), ids) << text;
  }
  EXPECT_EQ(text_tokenizer.begin_token(), 128000);
}

TEST(BpeTokenizer, Llama3GivesTheIdsOfThe47Texts) {
  const auto tokenizer = Llama3Vocabulary();
  const auto vectors = ReadVectors("ggml-vocab-llama-bpe.gguf");
  if (!tokenizer || vectors.empty()) GTEST_SKIP() << "the llama-bpe vectors are not there";
  ASSERT_EQ(vectors.size(), 47u);
  const TextTokenizer text_tokenizer(*tokenizer);
  for (const TextAndIds& vector : vectors) {
    EXPECT_EQ(text_tokenizer.Encode(vector.text, false), vector.ids) << vector.text;
  }
}

}  // namespace
}  // namespace quern
