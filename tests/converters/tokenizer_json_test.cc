#include "converters/tokenizer_json.h"

#include <cstdio>

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

// A small vocabulary of each kind, part by part.
struct SpmParts {
  std::string added = "";  // behind the unknown token, each with a comma in front
  std::string merges = R"(["a b"])";
  std::string normalizer = R"({"type": "Sequence", "normalizers": [
      {"type": "Prepend", "prepend": "▁"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})";
  std::string pre_tokenizer = "null";
  std::string post_processor = "null";
  std::string model = "";  // members, each with a comma behind
  std::string unknown = "\"<unk>\"";
  std::string more_tokens = "";  // each with a comma in front
  int n_bytes = 256;
};

// "<unk>" 0, the bytes 1 to 256, "a" 257, "b" 258, "ab" 259.
std::string Spm(const SpmParts& parts = {}) {
  std::string vocab = "\"<unk>\": 0";
  for (int byte = 0; byte < parts.n_bytes; ++byte) {
    char text[32];
    std::snprintf(text, sizeof text, ", \"<0x%02X>\": %d", byte, byte + 1);
    vocab += text;
  }
  vocab += R"(, "a": 257, "b": 258, "ab": 259)" + parts.more_tokens;
  return R"({"added_tokens": [{"id": 0, "content": "<unk>", "special": true})" + parts.added +
         R"(], "normalizer": )" + parts.normalizer + R"(, "pre_tokenizer": )" +
         parts.pre_tokenizer + R"(, "post_processor": )" + parts.post_processor +
         R"(, "model": {"type": "BPE", "byte_fallback": true, )" + parts.model +
         R"("unk_token": )" + parts.unknown + R"(, "vocab": {)" + vocab + R"(}, "merges": )" +
         parts.merges + "}}";
}

TEST(TokenizerJson, TypesAndAddedTokens) {
  const Tokenizer t = ReadTokenizerJson(
      Spm({.added = R"(, {"id": 261, "content": "<|im_end|>", "special": true},
                        {"id": 262, "content": "▁▁x", "special": false})",
           .merges = R"([["a", "b"]])"}),
      "t.json");
  ASSERT_EQ(t.tokens.size(), 263u);
  EXPECT_EQ(t.types[0], TokenType::kUnknown);
  EXPECT_EQ(t.types[1], TokenType::kByte);
  EXPECT_EQ(t.types[256], TokenType::kByte);
  EXPECT_EQ(t.types[259], TokenType::kNormal);
  EXPECT_EQ(t.tokens[260], "[PAD260]");
  EXPECT_EQ(t.types[260], TokenType::kUnused);
  EXPECT_EQ(t.types[261], TokenType::kControl);
  EXPECT_EQ(t.tokens[262], "  x");
  EXPECT_EQ(t.types[262], TokenType::kUserDefined);
  EXPECT_EQ(t.unk_id, 0u);
  EXPECT_TRUE(*t.add_space_prefix);
  EXPECT_FALSE(*t.add_bos);
}

TEST(TokenizerJson, NothingNeedBeUnknown) {
  const Tokenizer t = ReadTokenizerJson(Spm({.unknown = "null"}), "t.json");
  EXPECT_FALSE(t.unk_id.has_value());
  EXPECT_EQ(t.types[0], TokenType::kControl);
}

// Every spelling that real files have of the steps around a SentencePiece vocabulary.
TEST(TokenizerJson, TheSameStepsInOtherWords) {
  const auto prefix = [](const SpmParts& parts) {
    return *ReadTokenizerJson(Spm(parts), "t.json").add_space_prefix;
  };
  EXPECT_FALSE(prefix(
      {.normalizer = R"({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})"}));
  const auto metaspace = [&](const std::string& members) {
    return prefix({.normalizer = "null",
                   .pre_tokenizer = R"({"type": "Metaspace", "replacement": "▁", "split": false)" +
                                    members + "}"});
  };
  EXPECT_TRUE(metaspace(R"(, "prepend_scheme": "first")"));
  EXPECT_TRUE(metaspace(R"(, "prepend_scheme": "always")"));
  EXPECT_FALSE(metaspace(R"(, "prepend_scheme": "never")"));
  EXPECT_FALSE(metaspace(R"(, "add_prefix_space": false)"));
  EXPECT_TRUE(metaspace(R"(, "add_prefix_space": true)"));
}

TEST(TokenizerJson, TheTemplateTellsWhatStandsAroundTheText) {
  const auto read = [](const std::string& items) {
    return ReadTokenizerJson(
        Spm({.post_processor = R"({"type": "TemplateProcessing", "single": [)" + items + "]}"}),
        "t.json");
  };
  const std::string text = R"({"Sequence": {"id": "A", "type_id": 0}})";
  const auto token = [](const char* name) {
    return R"({"SpecialToken": {"id": ")" + std::string(name) + R"(", "type_id": 0}})";
  };
  const Tokenizer both = read(token("a") + "," + text + "," + token("b"));
  EXPECT_EQ(both.bos_id, 257u);
  EXPECT_EQ(both.eos_id, 258u);
  EXPECT_TRUE(*both.add_bos && *both.add_eos);
  EXPECT_FALSE(*read(text).add_bos);
  ExpectError(Caught([&] { read(token("x") + "," + text); }), ErrorCode::kData, "config.value",
              {"single", "'x'"});
  for (const std::string& items :
       {token("a") + "," + token("b") + "," + text, text + "," + text, token("a")}) {
    ExpectError(Caught([&] { read(items); }), ErrorCode::kUnsupported, "tokenizer.post-processor",
                {"single"});
  }
}

// What it costs to look at every split must not grow with the square of a token's length.
TEST(TokenizerJson, LongTokensCostNothing) {
  std::string more;
  for (int i = 0; i < 20; ++i) {
    more += ", \"" + std::string(300000, static_cast<char>('c' + i)) + "\": " + std::to_string(260 + i);
  }
  ExpectError(Caught([&] { ReadTokenizerJson(Spm({.more_tokens = more}), "t.json"); }),
              ErrorCode::kUnsupported, "tokenizer.token-length", {"300000 bytes", "256"});
  // As many of the longest tokens as there may be.
  more.clear();
  for (int i = 0; i < 31000; ++i) {
    std::string text = std::to_string(i);
    text.resize(256, 'a');
    more += ", \"" + text + "\": " + std::to_string(260 + i);
  }
  EXPECT_EQ(ReadTokenizerJson(Spm({.more_tokens = more}), "t.json").tokens.size(), 31260u);
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

const std::string kLlama3Split =
    R"({"type": "Split", "pattern": {"Regex": "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"})";

std::string SplitAndByteLevel(const std::string& split, const std::string& byte_level) {
  return BytePair(R"({"type": "Sequence", "pretokenizers": [)" + kLlama3Split + split +
                  R"(}, {"type": "ByteLevel")" + byte_level + "}]}");
}

Refusal Unsupported(const char* name, const char* id, SpmParts parts,
                    std::vector<std::string> words) {
  return {name, Spm(parts), ErrorCode::kUnsupported, id, std::move(words)};
}
Refusal Normalizer(const char* name, const std::string& normalizer,
                   std::vector<std::string> words) {
  return Unsupported(name, "tokenizer.normalizer", {.normalizer = normalizer}, std::move(words));
}
Refusal Metaspace(const char* name, const std::string& members, std::vector<std::string> words) {
  return Unsupported(
      name, "tokenizer.pre-tokenizer",
      {.normalizer = "null", .pre_tokenizer = R"({"type": "Metaspace")" + members + "}"},
      std::move(words));
}
Refusal Data(const char* name, const char* id, SpmParts parts, std::vector<std::string> words) {
  return {name, Spm(parts), ErrorCode::kData, id, std::move(words)};
}
Refusal PreTokenizer(const char* name, const std::string& text, std::vector<std::string> words) {
  return {name, text, ErrorCode::kUnsupported, "tokenizer.pre-tokenizer", std::move(words)};
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
        Data("HugeAddedId", "tokenizer.id",
             {.added = R"(, {"id": 4000000, "content": "x", "special": false})"}, {"4000000"}),
        Data("SameText", "tokenizer.duplicate-token",
             {.added = R"(, {"id": 260, "content": "a", "special": false})"}, {"'a'"}),
        Data("NulInToken", "tokenizer.token", {.more_tokens = R"(, "x\u0000y": 260)"},
             {"token 260", "x\\x00y"}),
        Data("NoToken", "tokenizer.merge", {.merges = R"(["a c"])"}, {"merge 0", "a c"}),
        Data("HalfMerge", "tokenizer.merge", {.merges = R"(["ab"])"}, {"merge 0"}),
        Data("ByteMissing", "tokenizer.byte-missing", {.n_bytes = 255}, {"byte 255", "<0xFF>"}),
        Data("UnknownIsNoToken", "config.value", {.unknown = "\"<u>\""}, {"unk_token", "<u>"}),
        Unsupported("NotAllSplits", "tokenizer.merges", {.merges = "[]"}, {"'ab'"}),
        Unsupported("Dropout", "tokenizer.algorithm", {.model = R"("dropout": 0.1, )"},
                    {"model.dropout", "0.1"}),
        Unsupported("WholeTexts", "tokenizer.algorithm", {.model = R"("ignore_merges": true, )"},
                    {"model.ignore_merges"}),
        Unsupported("Suffix", "tokenizer.algorithm", {.model = R"("end_of_word_suffix": "</w>", )"},
                    {"end_of_word_suffix", "</w>"}),
        Unsupported("Roberta", "tokenizer.post-processor",
                    {.post_processor = R"({"type": "RobertaProcessing"})"}, {"RobertaProcessing"}),
        Normalizer("Nothing", "null", {"normalizer", "no such step"}),
        Normalizer("Nfkc", R"({"type": "NFKC"})", {"NFKC"}),
        Normalizer("PrependOnly", R"({"type": "Prepend", "prepend": "▁"})", {"no such step"}),
        Normalizer("PrependOther",
                   R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "X"}]})",
                   {"Prepend.prepend", "'X'"}),
        Normalizer("ReplaceOther",
                   R"({"type": "Replace", "pattern": {"String": "a"}, "content": "▁"})",
                   {"Replace.pattern", "'a'"}),
        Normalizer("ReplaceByRegex",
                   R"({"type": "Replace", "pattern": {"Regex": " "}, "content": "▁"})",
                   {"Replace.pattern", "String ' '"}),
        Normalizer("ReplaceByOther",
                   R"({"type": "Replace", "pattern": {"String": " "}, "content": "_"})",
                   {"Replace.content", "'_'"}),
        Normalizer("StripToo", R"({"type": "Sequence", "normalizers": [
                       {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
                       {"type": "Strip"}]})",
                   {"Strip"}),
        Metaspace("MetaspaceSplits", R"(, "replacement": "▁", "split": true)", {"Metaspace.split"}),
        Metaspace("OldMetaspaceSplits", R"(, "replacement": "▁", "add_prefix_space": true)",
                  {"Metaspace.split", "none"}),
        Metaspace("MetaspaceMark", R"(, "replacement": "_", "split": false)",
                  {"Metaspace.replacement", "'_'"}),
        Metaspace("MetaspaceScheme",
                  R"(, "replacement": "▁", "split": false, "prepend_scheme": "last")",
                  {"Metaspace.prepend_scheme", "'last'"}),
        Unsupported("MarkedTwice", "tokenizer.pre-tokenizer",
                    {.pre_tokenizer = R"({"type": "Metaspace", "replacement": "▁", "split": false})"},
                    {"Metaspace"}),
        PreTokenizer("UnknownPattern",
                     BytePair(R"({"type": "Split", "pattern": {"Regex": "\\d+"}})"),
                     {"Split.pattern", "d+"}),
        PreTokenizer("Whitespace", BytePair(R"({"type": "Whitespace"})"), {"Whitespace"}),
        PreTokenizer("NotCut", BytePair("null"), {"pre_tokenizer"}),
        PreTokenizer("PrefixSpace", BytePair(R"({"type": "ByteLevel", "add_prefix_space": true})"),
                     {"ByteLevel.add_prefix_space"}),
        PreTokenizer("SplitRemoves",
                     SplitAndByteLevel(R"(, "behavior": "Removed")", R"(, "add_prefix_space": false)"),
                     {"Split.behavior", "'Removed'"}),
        PreTokenizer("SplitInverted",
                     SplitAndByteLevel(R"(, "behavior": "Isolated", "invert": true)", ""),
                     {"Split.invert"}),
        PreTokenizer("CutTwice",
                     SplitAndByteLevel(R"(, "behavior": "Isolated")",
                                       R"(, "add_prefix_space": false, "use_regex": true)"),
                     {"ByteLevel.use_regex"}),
        PreTokenizer("NotCutAtAll",
                     BytePair(R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false})"),
                     {"ByteLevel.use_regex"}),
        Refusal{"ByteLevelByteMissing",
                SplitAndByteLevel(R"(, "behavior": "Isolated")",
                                  R"(, "add_prefix_space": false, "use_regex": false)"),
                ErrorCode::kData,
                "tokenizer.byte-missing",
                {"byte 0"}}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace quern
