#include "converters/tokenizer_import.h"

#include <set>

#include "formats/core/file.h"
#include "tests/converters/test_support.h"

namespace quern {
namespace {

using testing::Caught;
using testing::ExpectError;
using testing::MakeSentencePieceModel;
using testing::MakeTiktokenRanks;

std::vector<std::string> Strings(const StringList& list) {
  std::vector<std::string> strings;
  for (size_t i = 0; i < list.size(); ++i) strings.emplace_back(list[i]);
  return strings;
}

Tokenizer Read(const std::string& text) {
  return ReadTiktokenModel(AsBytes(text), "tokenizer.model", TiktokenNames::kLlama3);
}

std::string Text(const std::vector<uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }

TEST(ByteLevelText, IsGpt2s) {
  EXPECT_EQ(ByteLevelText(" the\n"), "ĠtheĊ");
  EXPECT_EQ(ByteLevelText(std::string("\0\x7f\xad\xff", 4)), "ĀġŃÿ");
  std::set<std::string> all;
  for (int byte = 0; byte < 256; ++byte) {
    all.insert(ByteLevelText(std::string(1, static_cast<char>(byte))));
  }
  EXPECT_EQ(all.size(), 256u);
}

TEST(ReadTiktokenModel, RecoversEveryMerge) {
  const Tokenizer tokenizer = ReadTiktokenModel(
      MakeTiktokenRanks({"ab", "bc", "abc", " a"}), "tokenizer.model", TiktokenNames::kLlama31);
  EXPECT_EQ(tokenizer.kind, Tokenizer::Kind::kBytePair);
  EXPECT_EQ(tokenizer.pre, "llama-bpe");
  ASSERT_EQ(tokenizer.tokens.size(), 256u + 4 + 256);
  EXPECT_EQ(tokenizer.tokens[0], "!");
  EXPECT_EQ(tokenizer.tokens[256], "ab");
  // By token in rank order, then by the ranks of the halves: "a" (64) + "bc" before "ab" + "c".
  EXPECT_EQ(Strings(tokenizer.merges),
            (std::vector<std::string>{"a b", "b c", "a bc", "ab c", "Ġ a"}));
  EXPECT_EQ(tokenizer.tokens[260], "<|begin_of_text|>");
  EXPECT_EQ(tokenizer.bos_id, 260u);
  EXPECT_EQ(tokenizer.eos_id, 261u);
  EXPECT_EQ(tokenizer.eom_id, 268u);
  EXPECT_EQ(tokenizer.eot_id, 269u);
  EXPECT_EQ(tokenizer.types[259], TokenType::kNormal);
  EXPECT_EQ(tokenizer.types[260], TokenType::kControl);
  EXPECT_EQ(tokenizer.types.size(), tokenizer.tokens.size());
}

TEST(ReadTiktokenModel, NamesSpecialTokensByGeneration) {
  const auto ranks = MakeTiktokenRanks({});
  const Tokenizer llama3 = ReadTiktokenModel(ranks, "t", TiktokenNames::kLlama3);
  const Tokenizer llama31 = ReadTiktokenModel(ranks, "t", TiktokenNames::kLlama31);
  EXPECT_EQ(llama3.tokens[256 + 4], "<|reserved_special_token_2|>");
  EXPECT_EQ(llama31.tokens[256 + 4], "<|finetune_right_pad_id|>");
  EXPECT_EQ(llama3.tokens[256 + 8], "<|reserved_special_token_4|>");
  EXPECT_EQ(llama31.tokens[256 + 8], "<|eom_id|>");
  EXPECT_EQ(llama3.tokens[256 + 9], "<|eot_id|>");
  EXPECT_EQ(llama3.tokens[256 + 10], "<|reserved_special_token_5|>");
  EXPECT_EQ(llama31.tokens[256 + 10], "<|python_tag|>");
  EXPECT_EQ(llama31.tokens[256 + 11], "<|reserved_special_token_3|>");
  EXPECT_EQ(llama3.tokens[511], "<|reserved_special_token_250|>");
  EXPECT_EQ(llama31.tokens[511], "<|reserved_special_token_247|>");
  EXPECT_FALSE(llama3.eom_id);
  for (const Tokenizer* tokenizer : {&llama3, &llama31}) {
    const auto tokens = Strings(tokenizer->tokens);
    EXPECT_EQ(std::set<std::string>(tokens.begin(), tokens.end()).size(), 512u);
  }
}

TEST(ReadTiktokenModel, AcceptsEmptyLinesAndCarriageReturns) {
  std::string text = Text(MakeTiktokenRanks({"ab"}));
  const Tokenizer plain = Read(text);
  std::string with_returns = "\n";
  for (const char c : text) with_returns += c == '\n' ? "\r\n" : std::string(1, c);
  EXPECT_EQ(Read(with_returns), plain);
  EXPECT_EQ(Read(text.substr(0, text.size() - 1)), plain);  // no line end after the last
}

TEST(ReadTiktokenModel, NamesTheBadLine) {
  const std::string good = Text(MakeTiktokenRanks({}));
  const auto with = [&](const std::string& line) { return [=] { Read(good + line + "\n"); }; };
  ExpectError(Caught(with("YWI=")), ErrorCode::kData, "tiktoken.line", {"line 257", "YWI="});
  ExpectError(Caught(with("YW!= 256")), ErrorCode::kData, "tiktoken.line", {"line 257"});
  ExpectError(Caught(with("YWJ= 256")), ErrorCode::kData, "tiktoken.line", {"line 257"});
  ExpectError(Caught(with("YWI= 2x6")), ErrorCode::kData, "tiktoken.line", {"line 257"});
  ExpectError(Caught(with("YWI= -1")), ErrorCode::kData, "tiktoken.line", {"line 257"});
  ExpectError(Caught(with("YWI= 257")), ErrorCode::kData, "tiktoken.rank",
              {"line 257", "found 257", "expected 256"});
  ExpectError(Caught(with("YQ== 256")), ErrorCode::kData, "tiktoken.duplicate-token",
              {"rank 256", "'a'"});
  ExpectError(Caught(with(std::string(400, 'Y') + " 256")), ErrorCode::kData,
              "tiktoken.token-length", {"line 257"});
  ExpectError(Caught(with(std::string(100000, 'Y') + " 256")), ErrorCode::kData,
              "tiktoken.token-length", {"line 257"});
  ExpectError(Caught(with("PHxlb3RfaWR8Pg== 256")), ErrorCode::kData, "tiktoken.special-token",
              {"<|eot_id|>"});
  ExpectError(Caught([] { Read("IQ== 0\n"); }), ErrorCode::kData, "tiktoken.byte-missing",
              {"byte 0"});
  ExpectError(Caught([] { Read(std::string(9u << 20, '\n')); }), ErrorCode::kData,
              "tiktoken.too-large", {});
}

TEST(ReadTiktokenModel, BoundsTheMerges) {
  // All a^i b^j: every split of every token is in two tokens.
  std::vector<std::string> tokens;
  for (size_t i = 0; i <= 128; ++i) {
    for (size_t j = 0; j <= 128; ++j) {
      if (i + j >= 2) tokens.push_back(std::string(i, 'a') + std::string(j, 'b'));
    }
  }
  const std::string text = Text(MakeTiktokenRanks(tokens));
  ExpectError(Caught([&] { Read(text); }), ErrorCode::kUnsupported, "tiktoken.merges", {"280147"});
}

TEST(ReadMetaTokenizer, TellsTheKindsApart) {
  const auto spm = ReadMetaTokenizer(MakeSentencePieceModel({"a"}), "t", TiktokenNames::kLlama3);
  EXPECT_EQ(spm.kind, Tokenizer::Kind::kSentencePiece);
  EXPECT_EQ(spm.tokens.size(), 260u);
  EXPECT_FALSE(spm.fim_prefix_id);
  const auto ranks = ReadMetaTokenizer(MakeTiktokenRanks({}), "t", TiktokenNames::kLlama3);
  EXPECT_EQ(ranks.kind, Tokenizer::Kind::kBytePair);
  ExpectError(Caught([] { ReadMetaTokenizer(AsBytes("hello"), "t.model", TiktokenNames::kLlama3); }),
              ErrorCode::kData, "tokenizer.format", {"t.model", "hello"});
  ExpectError(Caught([] { ReadMetaTokenizer({}, "t.model", TiktokenNames::kLlama3); }),
              ErrorCode::kData, "tokenizer.format", {"t.model"});
}

TEST(ReadMetaTokenizer, FindsCodeLlamasInfillTokens) {
  const auto tokenizer =
      ReadMetaTokenizer(MakeSentencePieceModel({"a", "▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"}), "t",
                        TiktokenNames::kLlama3);
  EXPECT_EQ(tokenizer.fim_prefix_id, 260u);
  EXPECT_EQ(tokenizer.fim_suffix_id, 261u);
  EXPECT_EQ(tokenizer.fim_middle_id, 262u);
  EXPECT_EQ(tokenizer.eot_id, 263u);
  EXPECT_EQ(tokenizer.types[260], TokenType::kNormal);
}

TEST(PadTokenizer, FillsUpToTheRows) {
  auto tokenizer = ReadMetaTokenizer(MakeSentencePieceModel({"a", "[PAD262]"}), "t",
                                     TiktokenNames::kLlama3);
  Faults faults;
  PadTokenizer(tokenizer, 261, 100, "t", faults);
  EXPECT_EQ(tokenizer.tokens.size(), 261u);
  EXPECT_TRUE(Faults(faults).TakeFindings().empty());
  PadTokenizer(tokenizer, 264, 3, "t.model", faults);
  EXPECT_FALSE(faults.any());
  const auto findings = std::move(faults).TakeFindings();
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].id, "tokenizer.padded");
  for (const char* word : {"t.model", "261 tokens", "264", "[PAD261]"}) {
    EXPECT_NE(findings[0].line.find(word), std::string::npos) << findings[0].line;
  }
  ASSERT_EQ(tokenizer.tokens.size(), 264u);
  EXPECT_EQ(tokenizer.tokens[261], "[PAD261]");
  EXPECT_EQ(tokenizer.tokens[262], "[PAD262]_");  // the piece has that text already
  EXPECT_EQ(tokenizer.tokens[263], "[PAD263]");
  EXPECT_EQ(tokenizer.types[263], TokenType::kUnused);
  EXPECT_EQ(tokenizer.scores[263], -10000.0f);
  EXPECT_EQ(tokenizer.scores.size(), 264u);
  ExpectError(Caught([&] { PadTokenizer(tokenizer, 263, 3, "t.model", faults); }),
              ErrorCode::kData, "tokenizer.too-long", {"t.model", "264 tokens", "263"});
  ExpectError(Caught([&] { PadTokenizer(tokenizer, 268, 3, "t.model", faults); }),
              ErrorCode::kData, "tokenizer.too-short", {"t.model", "264 tokens", "268"});
}

// The counts are those of the GGUF files of Llama 3 in circulation.
TEST(ReadTiktokenModel, ReadsLlama3s) {
  QUERN_REQUIRE_ASSETS();
  const std::string path = testing::AssetsFolder() + "/tokenizers/llama3/tokenizer.model";
  const std::string text = ReadWholeFile(path, 8u << 20);
  const auto tokenizer = ReadMetaTokenizer(AsBytes(text), path, TiktokenNames::kLlama31);
  EXPECT_EQ(tokenizer.tokens.size(), 128256u);
  EXPECT_EQ(tokenizer.merges.size(), 280147u);
  EXPECT_EQ(tokenizer.tokens[198], "Ċ");
  EXPECT_EQ(tokenizer.tokens[220], "Ġ");
  EXPECT_EQ(tokenizer.bos_id, 128000u);
  EXPECT_EQ(tokenizer.eos_id, 128001u);
  EXPECT_EQ(tokenizer.eom_id, 128008u);
  EXPECT_EQ(tokenizer.eot_id, 128009u);
}

TEST(ReadMetaTokenizer, ReadsLlama2s) {
  QUERN_REQUIRE_ASSETS();
  const std::string path = testing::AssetsFolder() + "/tokenizers/llama2/tokenizer.model";
  const std::string text = ReadWholeFile(path, 1u << 20);
  const auto tokenizer = ReadMetaTokenizer(AsBytes(text), path, TiktokenNames::kLlama3);
  EXPECT_EQ(tokenizer.kind, Tokenizer::Kind::kSentencePiece);
  EXPECT_EQ(tokenizer.tokens.size(), 32000u);
  EXPECT_EQ(tokenizer.bos_id, 1u);
  EXPECT_EQ(tokenizer.eos_id, 2u);
  EXPECT_EQ(tokenizer.scores[29889], -29630.0f);
}

}  // namespace
}  // namespace quern
