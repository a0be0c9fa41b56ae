#include "converters/tokenizer_json.h"

#include "converters/tokenizer_import.h"
#include "formats/core/file.h"
#include "tests/converters/hf_writer.h"
#include "tests/converters/test_support.h"

namespace quern {
namespace {

using testing::Caught;
using testing::ExpectError;
using testing::TokenizerJsonOf;

Tokenizer FromModel(const std::string& path) {
  const std::string bytes = ReadWholeFile(path, 1u << 26);
  return ReadMetaTokenizer(AsBytes(bytes), path, TiktokenNames::kLlama31);
}

// What only side files and tokenizer.model say is left out of the comparison.
void ExpectSameVocabulary(const Tokenizer& found, const Tokenizer& expected) {
  EXPECT_EQ(found.kind, expected.kind);
  EXPECT_EQ(found.pre, expected.pre);
  EXPECT_EQ(found.tokens, expected.tokens);
  EXPECT_EQ(found.types, expected.types);
  EXPECT_EQ(found.scores, expected.scores);
  EXPECT_EQ(found.merges, expected.merges);
  EXPECT_EQ(found.bos_id, expected.bos_id);
  EXPECT_EQ(found.add_bos, expected.add_bos);
  EXPECT_EQ(found.add_space_prefix, expected.add_space_prefix);
}

TEST(TokenizerJson, GivesBackASentencePieceModel) {
  const Tokenizer expected =
      FromModel(QUERN_SOURCE_DIR "/tests/data/stories260K/hf/tokenizer.model");
  ExpectSameVocabulary(ReadTokenizerJson(TokenizerJsonOf(expected), "tokenizer.json"), expected);
}

TEST(TokenizerJson, GivesBackTiktokenRanks) {
  const auto ranks = testing::MakeTiktokenRanks({"ab", "abc", " a", "\n\n", "cd"});
  const Tokenizer expected = ReadTiktokenModel(ranks, "tokenizer.model", TiktokenNames::kLlama31);
  ExpectSameVocabulary(ReadTokenizerJson(TokenizerJsonOf(expected), "tokenizer.json"), expected);
}

TEST(TokenizerJson, GivesBackTheVocabulariesOfTheReleases) {
  QUERN_REQUIRE_ASSETS();
  const std::string folder = testing::AssetsFolder() + "/tokenizers/";
  const std::string json = ReadWholeFile(folder + "llama2/tokenizer.json", 1u << 26);
  ExpectSameVocabulary(ReadTokenizerJson(json, "tokenizer.json"),
                       FromModel(folder + "llama2/tokenizer.model"));
  const Tokenizer llama3 = FromModel(folder + "llama3/tokenizer.model");
  ExpectSameVocabulary(ReadTokenizerJson(TokenizerJsonOf(llama3), "tokenizer.json"), llama3);
}

constexpr char kSpm[] =
    R"({"added_tokens": [{"id": 0, "content": "<unk>", "special": true}ADDED],
        "normalizer": NORMALIZER, "pre_tokenizer": null, "post_processor": null,
        "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true,
                  "vocab": {"<unk>": 0, "<0x41>": 1, "a": 2, "b": 3, "ab": 4}, "merges": MERGES}})";

std::string Spm(const std::string& added = "", const std::string& merges = R"(["a b"])",
                const std::string& normalizer = "null") {
  std::string text = kSpm;
  for (const auto& [mark, by] : {std::pair<std::string, std::string>{"ADDED", added},
                                 {"MERGES", merges},
                                 {"NORMALIZER", normalizer}}) {
    text.replace(text.find(mark), mark.size(), by);
  }
  return text;
}

TEST(TokenizerJson, TypesAndAddedTokens) {
  const Tokenizer t =
      ReadTokenizerJson(Spm(R"(, {"id": 6, "content": "<|im_end|>", "special": true},
             {"id": 7, "content": "▁▁x", "special": false})",
                            R"([["a", "b"]])"),
                        "t.json");
  ASSERT_EQ(t.tokens.size(), 8u);
  EXPECT_EQ(t.types[0], TokenType::kUnknown);
  EXPECT_EQ(t.types[1], TokenType::kByte);
  EXPECT_EQ(t.types[4], TokenType::kNormal);
  EXPECT_EQ(t.tokens[5], "[PAD5]");
  EXPECT_EQ(t.types[5], TokenType::kUnused);
  EXPECT_EQ(t.types[6], TokenType::kControl);
  EXPECT_EQ(t.tokens[7], "  x");
  EXPECT_EQ(t.types[7], TokenType::kUserDefined);
  EXPECT_EQ(t.unk_id, 0u);
  EXPECT_FALSE(*t.add_space_prefix);
}

struct Refusal {
  const char* name;
  std::string text;
  ErrorCode code;
  const char* id;
  std::vector<std::string> words;
};
void PrintTo(const Refusal& c, std::ostream* out) { *out << c.name; }
class TokenizerJsonRefusals : public ::testing::TestWithParam<Refusal> {};

TEST_P(TokenizerJsonRefusals, NameWhatIsWrong) {
  const Refusal& c = GetParam();
  ExpectError(Caught([&] { ReadTokenizerJson(c.text, "t.json"); }), c.code, c.id, c.words);
}

std::string BytePair(const std::string& pre) {
  return R"({"pre_tokenizer": )" + pre + R"(, "model": {"vocab": {"a": 0}, "merges": []}})";
}

INSTANTIATE_TEST_SUITE_P(
    All, TokenizerJsonRefusals,
    ::testing::Values(
        Refusal{"NoModel", "{}", ErrorCode::kData, "config.value", {"model"}},
        Refusal{"Unigram",
                R"({"model": {"type": "Unigram", "vocab": []}})",
                ErrorCode::kUnsupported,
                "tokenizer.algorithm",
                {"Unigram"}},
        Refusal{"NoVocabulary",
                R"({"model": {"type": "BPE"}})",
                ErrorCode::kData,
                "config.value",
                {"vocab"}},
        Refusal{"HugeId",
                R"({"model": {"vocab": {"a": 4000000000}}})",
                ErrorCode::kData,
                "tokenizer.id",
                {"'a'", "4000000000"}},
        Refusal{"SameId",
                R"({"model": {"vocab": {"a": 0, "b": 0}}})",
                ErrorCode::kData,
                "tokenizer.id",
                {"'a'", "'b'"}},
        Refusal{"HugeAddedId",
                Spm(R"(, {"id": 4000000, "content": "x", "special": false})"),
                ErrorCode::kData,
                "tokenizer.id",
                {"4000000"}},
        Refusal{"SameText",
                Spm(R"(, {"id": 5, "content": "a", "special": false})"),
                ErrorCode::kData,
                "tokenizer.duplicate-token",
                {"'a'"}},
        Refusal{"NoToken",
                Spm("", R"(["a c"])"),
                ErrorCode::kData,
                "tokenizer.merge",
                {"merge 0", "a c"}},
        Refusal{
            "HalfMerge", Spm("", R"(["ab"])"), ErrorCode::kData, "tokenizer.merge", {"merge 0"}},
        Refusal{
            "NotAllSplits", Spm("", "[]"), ErrorCode::kUnsupported, "tokenizer.merges", {"'ab'"}},
        Refusal{"Nfkc",
                Spm("", R"(["a b"])", R"({"type": "NFKC"})"),
                ErrorCode::kUnsupported,
                "tokenizer.normalizer",
                {"NFKC"}},
        Refusal{"UnknownPattern",
                BytePair(R"({"type": "Split", "pattern": {"Regex": "\\d+"}})"),
                ErrorCode::kUnsupported,
                "tokenizer.pre-tokenizer",
                {"d+"}},
        Refusal{"Whitespace",
                BytePair(R"({"type": "Whitespace"})"),
                ErrorCode::kUnsupported,
                "tokenizer.pre-tokenizer",
                {"Whitespace"}},
        Refusal{"PrefixSpace",
                BytePair(R"({"type": "ByteLevel", "add_prefix_space": true})"),
                ErrorCode::kUnsupported,
                "tokenizer.pre-tokenizer",
                {"add_prefix_space"}}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace quern
