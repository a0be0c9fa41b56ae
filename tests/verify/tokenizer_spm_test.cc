#include "verify/tokenizer_spm.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "formats/core/error.h"
#include "tests/verify/vocabularies.h"
#include "verify/tokenize.h"

namespace quern {
namespace {

using Ids = std::vector<int32_t>;

// 0 <unk>, 1 <s>, 2 </s>, 3…258 bytes, then pieces with scores.
Tokenizer SmallVocabulary(std::initializer_list<std::pair<std::string_view, float>> pieces) {
  Tokenizer tokenizer = ByteVocabulary();
  for (const auto& [text, score] : pieces) {
    tokenizer.tokens.push_back(text);
    tokenizer.scores.push_back(score);
    tokenizer.types.push_back(TokenType::kNormal);
  }
  return tokenizer;
}

TEST(SpmTokenizer, MergesTheBestScoreFirst) {
  // "abc" with bc better than ab: a + bc, though ab stands first.
  Tokenizer t = SmallVocabulary({{"a", -9}, {"b", -9}, {"c", -9}, {"ab", -2}, {"bc", -1}});
  t.add_space_prefix = false;
  EXPECT_EQ(Tokenize(t, "abc", false), (Ids{259, 263}));
  EXPECT_EQ(Tokenize(t, "ab", false), (Ids{262}));
}

TEST(SpmTokenizer, EqualScoresMergeFromTheLeft) {
  Tokenizer t = SmallVocabulary({{"a", -9}, {"aa", -1}});
  t.add_space_prefix = false;
  EXPECT_EQ(Tokenize(t, "aaa", false), (Ids{260, 259}));
  EXPECT_EQ(Tokenize(t, "aaaaa", false), (Ids{260, 260, 259}));
}

TEST(SpmTokenizer, OvertakenPairsAreDropped) {
  // bc merges first, so neither ab nor cd can; then a + bc does.
  Tokenizer t = SmallVocabulary(
      {{"a", -9}, {"b", -9}, {"c", -9}, {"d", -9}, {"bc", -1}, {"ab", -2}, {"cd", -3}, {"abc", -4}});
  t.add_space_prefix = false;
  EXPECT_EQ(Tokenize(t, "abcd", false), (Ids{266, 262}));
}

TEST(SpmTokenizer, SpacesBecomeMarksAndAPrefixIsAdded) {
  Tokenizer t = SmallVocabulary({{"\u2581", -3}, {"a", -9}, {"\u2581" "a", -1}, {"\u2581\u2581", -2}});
  EXPECT_EQ(Tokenize(t, "a", true), (Ids{1, 261}));
  EXPECT_EQ(Tokenize(t, "a a", false), (Ids{261, 261}));
  EXPECT_EQ(Tokenize(t, " a", false), (Ids{259, 261}));
  EXPECT_EQ(Tokenize(t, "  ", false), (Ids{262, 259}));
  EXPECT_EQ(Tokenize(t, "", true), (Ids{1}));
  t.add_space_prefix = false;
  EXPECT_EQ(Tokenize(t, "a", false), (Ids{260}));
}

TEST(SpmTokenizer, SpecialTokensFollowTheVocabulary) {
  Tokenizer t = SmallVocabulary({{"a", -9}});
  t.add_space_prefix = false;
  EXPECT_EQ(Tokenize(t, "a", true), (Ids{1, 259}));
  EXPECT_EQ(Tokenize(t, "a", false), (Ids{259}));
  t.add_eos = true;
  EXPECT_EQ(Tokenize(t, "a", true), (Ids{1, 259, 2}));
  t.add_bos = false;
  EXPECT_EQ(Tokenize(t, "a", true), (Ids{259, 2}));
}

TEST(SpmTokenizer, ControlTokensAreNotRecognisedInText) {
  Tokenizer t = SmallVocabulary({});
  t.add_space_prefix = false;
  EXPECT_EQ(Tokenize(t, "<s>", false), (Ids{3 + '<', 3 + 's', 3 + '>'}));
}

TEST(SpmTokenizer, UserDefinedTokensAreCutOutLongestFirst) {
  Tokenizer t = SmallVocabulary({{"\u2581", -3}, {"x", -9}});
  for (const char* text : {"<a>", "<a>b", "b<a>"}) {
    t.tokens.push_back(text);
    t.scores.push_back(0);
    t.types.push_back(TokenType::kUserDefined);
  }
  // "<a>b" and "b<a>" are of equal length: the smaller id goes first. A space prefix stands at the
  // beginning and behind each token.
  EXPECT_EQ(Tokenize(t, "x<a>x", false), (Ids{259, 260, 261, 259, 260}));
  EXPECT_EQ(Tokenize(t, "b<a>b", false), (Ids{259, 3 + 'b', 262}));
  EXPECT_EQ(Tokenize(t, "<a><a>", false), (Ids{261, 261}));
}

TEST(SpmTokenizer, HostileBytesFallBackOneByOne) {
  Tokenizer t = SmallVocabulary({});
  t.add_space_prefix = false;
  const std::string texts[] = {std::string("\xFF\xFE", 2), std::string("\xE2\x96", 2),
                               std::string("a\0b", 3),     std::string("\xF0\x9F\x98", 3),
                               std::string("\x80\x80", 2), std::string("\xC0\x80\xED\xA0\x80", 5)};
  for (const std::string& text : texts) {
    Ids expected;
    for (const char c : text) expected.push_back(3 + static_cast<uint8_t>(c));
    EXPECT_EQ(Tokenize(t, text, false), expected);
  }
}

TEST(SpmTokenizer, AnyBytesTokenize) {
  const Tokenizer t = ByteVocabulary();
  const TextTokenizer text_tokenizer(t);
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const std::string text = RandomBytes(seed * 7, seed);
    Ids expected;
    const auto add = [&](std::string_view bytes) {
      for (const char c : bytes) expected.push_back(3 + static_cast<uint8_t>(c));
    };
    if (!text.empty()) add("\u2581");
    for (const char c : text) add(c == ' ' ? "\u2581" : std::string_view(&c, 1));
    ASSERT_EQ(text_tokenizer.Encode(text, false), expected) << seed;
  }
}

TEST(SpmTokenizer, TwentyMillionSpacesTokenize) {
  // The prefix and the run: one mark more than spaces, in pairs from the left and pairs of pairs.
  const Tokenizer t = SmallVocabulary(
      {{"\u2581", -3}, {"\u2581\u2581", -2}, {"\u2581\u2581\u2581\u2581", -1}});
  const Ids ids = Tokenize(t, std::string(kLongRun - 1, ' '), false);
  EXPECT_EQ(ids, Ids(kLongRun / 4, 261));
}

TEST(SpmTokenizer, WithoutByteTokensTheUnknownTokenStandsForACharacter) {
  Tokenizer t;
  t.kind = Tokenizer::Kind::kSentencePiece;
  t.tokens = {"<unk>", "a"};
  t.scores = {0, 0};
  t.add_space_prefix = false;
  t.add_bos = false;
  t.unk_id = 0;
  EXPECT_EQ(Tokenize(t, "a\u20ACa", true), (Ids{1, 0, 1}));
  t.unk_id.reset();
  try {
    Tokenize(t, "b", false);
    FAIL() << "a text without tokens was encoded";
  } catch (const Error& error) {
    EXPECT_EQ(error.id(), "text.tokenize");
  }
}

TEST(SpmTokenizer, UnusableVocabulariesAreRefused) {
  const auto id_of = [](const Tokenizer& t) -> std::string {
    try {
      TextTokenizer tokenizer(t);
    } catch (const Error& error) {
      return error.id();
    }
    return "accepted";
  };
  Tokenizer none;
  EXPECT_EQ(id_of(none), "tokenizer.none");
  Tokenizer other;
  other.kind = Tokenizer::Kind::kOther;
  other.model_name = "t5";
  EXPECT_EQ(id_of(other), "tokenizer.kind");
  Tokenizer nan = SmallVocabulary({{"a", std::numeric_limits<float>::quiet_NaN()}});
  EXPECT_EQ(id_of(nan), "tokenizer.vocabulary");
}

// The oracle: always the best pair of all, looked for from the start each time.
Ids EncodeSlowly(const Tokenizer& t, std::string_view text) {
  std::vector<std::string> symbols;
  for (const char c : text) symbols.emplace_back(1, c);
  const auto find = [&](const std::string& s) -> int32_t {
    for (size_t i = 0; i < t.tokens.size(); ++i) {
      if (t.tokens[i] == s) return static_cast<int32_t>(i);
    }
    return -1;
  };
  for (;;) {
    size_t best = symbols.size();
    float best_score = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const int32_t id = find(symbols[i] + symbols[i + 1]);
      if (id < 0) continue;
      const float score = t.scores[static_cast<size_t>(id)];
      if (best == symbols.size() || score > best_score) {
        best = i;
        best_score = score;
      }
    }
    if (best == symbols.size()) break;
    symbols[best] += symbols[best + 1];
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
  Ids ids;
  for (const std::string& symbol : symbols) {
    const int32_t id = find(symbol);
    if (id >= 0) {
      ids.push_back(id);
    } else {
      for (const char c : symbol) ids.push_back(3 + static_cast<uint8_t>(c));
    }
  }
  return ids;
}

TEST(SpmTokenizer, AgreesWithTheSlowDefinitionOnRandomVocabularies) {
  uint64_t state = 1;
  const auto next = [&](uint64_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % n;
  };
  for (int round = 0; round < 200; ++round) {
    Tokenizer t = ByteVocabulary();
    t.add_space_prefix = false;
    for (int i = 0; i < 25; ++i) {
      std::string piece;
      for (uint64_t n = 1 + next(5); n > 0; --n) piece += static_cast<char>('a' + next(3));
      bool known = false;
      for (size_t j = 0; j < t.tokens.size(); ++j) known |= t.tokens[j] == piece;
      if (known) continue;
      t.tokens.push_back(piece);
      t.scores.push_back(-static_cast<float>(next(6)));
      t.types.push_back(TokenType::kNormal);
    }
    std::string text;
    for (uint64_t n = next(40); n > 0; --n) text += static_cast<char>('a' + next(4));
    EXPECT_EQ(Tokenize(t, text, false), EncodeSlowly(t, text)) << "round " << round << ": " << text;
  }
}

TEST(SpmTokenizer, Llama2GivesTheListedIds) {
  const auto tokenizer = Llama2Vocabulary();
  if (!tokenizer) GTEST_SKIP() << "tokenizers/llama2/tokenizer.model is not there";
  const struct {
    std::string_view text;
    Ids ids;
  } kVectors[] = {
      {"Hello world", {15043, 3186}},
      {" Hello", {29871, 15043}},
      {"  two  spaces ", {259, 1023, 29871, 8162, 29871}},
      {"\n", {29871, 13}},
      {"a\nb", {263, 13, 29890}},
      {"你好", {29871, 30919, 31076}},
      {"🦙 llama", {29871, 243, 162, 169, 156, 11148, 3304}},
      {"", {}},
      {"\t\ttabs", {29871, 12, 12, 21175}},
      {"\u2167 \uFB01", {29871, 229, 136, 170, 29871, 31017}},
      {"</s>", {1533, 29879, 29958}},
      {"<s>hi", {529, 29879, 29958, 2918}},
      {"12345 67.8",
       {29871, 29896, 29906, 29941, 29946, 29945, 29871, 29953, 29955, 29889, 29947}},
      {" ", {259}},
      {"  ", {1678}},
  };
  for (const auto& [text, ids] : kVectors) {
    EXPECT_EQ(Tokenize(*tokenizer, text, false), ids) << text;
  }
}

TEST(SpmTokenizer, Llama2GivesTheIdsOfThe47Texts) {
  const auto tokenizer = Llama2Vocabulary();
  const auto vectors = ReadVectors("ggml-vocab-llama-spm.gguf");
  if (!tokenizer || vectors.empty()) GTEST_SKIP() << "the llama-spm vectors are not there";
  ASSERT_EQ(vectors.size(), 47u);
  const TextTokenizer text_tokenizer(*tokenizer);
  for (const TextAndIds& vector : vectors) {
    EXPECT_EQ(text_tokenizer.Encode(vector.text, false), vector.ids) << vector.text;
  }
}

TEST(SpmTokenizer, LongRunsStayLinear) {
  const auto tokenizer = Llama2Vocabulary();
  if (!tokenizer) GTEST_SKIP() << "tokenizers/llama2/tokenizer.model is not there";
  // Quadratic work on these would take hours; no time is asserted.
  const TextTokenizer text_tokenizer(*tokenizer);
  const Ids spaces = text_tokenizer.Encode(std::string(2'000'000, ' '), false);
  EXPECT_LT(spaces.size(), 200'000u);
  const Ids letters = text_tokenizer.Encode(std::string(2'000'000, 'a'), false);
  EXPECT_LT(letters.size(), 2'000'001u);
}

}  // namespace
}  // namespace quern
