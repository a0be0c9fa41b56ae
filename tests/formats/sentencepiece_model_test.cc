#include "formats/sentencepiece_model.h"

#include <fmt/format.h>

#include <cmath>

#include "tests/formats/sentencepiece_builder.h"
#include "tests/formats/testing.h"

namespace quern {
namespace {

using testing::BytesField;
using testing::ErrorOf;
using testing::ExpectError;
using testing::BytePieces;
using testing::FivePieces;
using testing::FloatField;
using testing::LlamaSettings;
using testing::Piece;
using testing::Tag;
using testing::Varint;
using testing::VarintField;

SentencePieceModel Parse(const std::string& bytes) {
  return ParseSentencePieceModel(AsBytes(bytes), "FILE");
}

void ExpectRefused(const std::string& bytes, std::string_view id,
                   const std::vector<std::string>& words = {}) {
  auto all_words = words;
  all_words.emplace_back("FILE");
  ExpectError([&] { Parse(bytes); }, ErrorCode::kData, id, all_words);
}

TEST(SentencePiece, ReadsPiecesAndTheDefaultsOfTheProto) {
  const SentencePieceModel m = Parse(FivePieces());
  EXPECT_EQ(m.tokenizer.kind, Tokenizer::Kind::kSentencePiece);
  EXPECT_EQ(m.tokenizer.pre, "default");
  EXPECT_EQ(m.tokenizer.tokens, (StringList{"<unk>", "<s>", "</s>",
                                            "\xE2\x96\x81"
                                            "a",
                                            "a"}));
  EXPECT_EQ(m.tokenizer.scores, (std::vector<float>{0, 0, 0, -1, -2}));
  EXPECT_EQ(m.tokenizer.types,
            (std::vector<TokenType>{TokenType::kUnknown, TokenType::kControl, TokenType::kControl,
                                    TokenType::kNormal, TokenType::kNormal}));
  EXPECT_EQ(m.algorithm, SentencePieceAlgorithm::kUnigram);
  EXPECT_TRUE(m.add_dummy_prefix && m.remove_extra_whitespaces && m.escape_whitespaces);
  EXPECT_FALSE(m.byte_fallback || m.treat_whitespace_as_suffix);
  EXPECT_EQ(m.tokenizer.unk_id, 0U);
  EXPECT_EQ(m.tokenizer.bos_id, 1U);
  EXPECT_EQ(m.tokenizer.eos_id, 2U);
  EXPECT_FALSE(m.tokenizer.pad_id.has_value());
  EXPECT_EQ(m.tokenizer.add_bos, true);
  EXPECT_EQ(m.tokenizer.add_eos, false);
}

TEST(SentencePiece, AnAbsentTypeIsNormalAndAnAbsentScoreZero) {
  const SentencePieceModel m = Parse(Piece("<unk>", 5, 2) + BytesField(1, BytesField(1, "x")));
  EXPECT_EQ(m.tokenizer.types[1], TokenType::kNormal);
  EXPECT_EQ(m.tokenizer.scores[1], 0.0F);
  EXPECT_FALSE(m.tokenizer.eos_id.has_value());  // 2 is no piece of this model
}

TEST(SentencePiece, ReadsSettings) {
  const std::string trainer = VarintField(3, 2) + VarintField(24, 1) + VarintField(35, 1) +
                              VarintField(40, 3) + VarintField(41, ~uint64_t{0}) +
                              VarintField(42, 4) + VarintField(43, 0) + BytesField(30, "<x>") +
                              FloatField(10, 0.99F);
  const std::string normalizer =
      BytesField(1, "name") + VarintField(3, 0) + VarintField(4, 0) + VarintField(5, 0);
  const SentencePieceModel m =
      Parse(BytesField(2, trainer) + BytesField(3, normalizer) + FivePieces() + BytePieces());
  EXPECT_EQ(m.algorithm, SentencePieceAlgorithm::kBpe);
  EXPECT_TRUE(m.treat_whitespace_as_suffix && m.byte_fallback);
  EXPECT_FALSE(m.add_dummy_prefix || m.remove_extra_whitespaces || m.escape_whitespaces);
  EXPECT_EQ(m.normalizer_name, "name");
  EXPECT_EQ(m.bos_id, -1);
  EXPECT_EQ(m.tokenizer.unk_id, 3U);
  EXPECT_FALSE(m.tokenizer.bos_id.has_value());
  EXPECT_EQ(m.tokenizer.eos_id, 4U);
  EXPECT_EQ(m.tokenizer.pad_id, 0U);
  EXPECT_EQ(m.tokenizer.add_space_prefix, false);
  EXPECT_EQ(m.tokenizer.add_bos, false);  // there is none
  EXPECT_EQ(Parse(FivePieces()).tokenizer.add_bos, true);
}

// What libsentencepiece does not load either, or llama.cpp makes nothing of.
TEST(SentencePiece, ModelsMustHoldTogether) {
  using std::string_literals::operator""s;
  const std::string five = FivePieces(), bytes = BytePieces();
  ExpectRefused(five.substr(Piece("<unk>", 0, 2).size()), "spm.unknown-piece", {"found 0"});
  ExpectRefused(five + Piece("<u>", 0, 2), "spm.unknown-piece", {"found 2"});
  ExpectRefused(Piece("<unk>", 0, 5) + Piece("a", 0, 5), "spm.unknown-piece", {"found 0"});
  ExpectRefused(five + Piece("<0x0a>", 0, 6), "spm.byte-piece", {"<0x0a>"});
  ExpectRefused(five + Piece("<0xZZ>", 0, 6), "spm.byte-piece", {"<0xZZ>"});
  ExpectRefused(five + LlamaSettings(), "spm.byte-piece", {"0 pieces", "<0x00>"});
  ExpectRefused(five + bytes.substr(0, bytes.size() - Piece("<0xFF>", 0, 6).size()) + LlamaSettings(),
                "spm.byte-piece", {"255 pieces", "<0xFF>"});
  ExpectRefused(five + Piece("a\0b"s), "spm.piece-text", {"a\\x00b", "piece 5"});
  ExpectRefused(five + BytesField(2, VarintField(41, 5)), "spm.special-id", {"bos_id", "5"});
  ExpectRefused(five + BytesField(2, VarintField(42, 32000)), "spm.special-id",
                {"eos_id", "32000"});
  EXPECT_FALSE(Parse(five + BytesField(2, VarintField(41, ~uint64_t{0}))).tokenizer.bos_id);
}

TEST(SentencePiece, UnknownFieldsAreSkipped) {
  const std::string group =
      Tag(9, 3) + VarintField(1, 5) + Tag(8, 3) + BytesField(2, "x") + Tag(8, 4) + Tag(9, 4);
  const std::string extra = VarintField(100, 1) + BytesField(4, "self test") + BytesField(5, "") +
                            FloatField(200, 1) + Tag(77, 1) + "12345678" + group;
  const SentencePieceModel m =
      Parse(extra + FivePieces() + extra + BytesField(1, extra.substr(0, 3) + BytesField(1, "y")));
  EXPECT_EQ(m.tokenizer.tokens.size(), 6U);
}

TEST(SentencePiece, BadPiecesAreRefused) {
  const std::string five = FivePieces();
  ExpectRefused("", "spm.no-pieces", {"pieces"});
  ExpectRefused(BytesField(3, ""), "spm.no-pieces");
  ExpectRefused(five + Piece(std::string(8193, 'a')), "spm.piece-length", {"piece 5", "8193"});
  ExpectRefused(five + Piece(""), "spm.piece-length", {"piece 5", "0 bytes"});
  ExpectRefused(five + BytesField(1, FloatField(2, 0)), "spm.piece-length");
  ExpectRefused(five + Piece("b") + Piece("a"), "spm.duplicate-piece", {"piece 6", "'a'"});
  for (const uint64_t type : {uint64_t{0}, uint64_t{7}, uint64_t{99}, ~uint64_t{0}}) {
    ExpectRefused(five + Piece("z", 0, type), "spm.piece-type", {"'z'", std::to_string(type)});
  }
  for (const float score : {NAN, INFINITY, -INFINITY})
    ExpectRefused(five + Piece("z", score), "spm.score", {"'z'"});
  for (const std::string bad : {"\xC3(", "\xED\xA0\x80", "\xC0\x80", "\xFF", "\xE2\x96"}) {
    ExpectRefused(five + Piece(bad), "text.utf8", {"piece 5", "offset"});
  }
  EXPECT_NO_THROW(Parse(five + Piece(std::string(8192, 'a'))));
}

TEST(SentencePiece, BrokenWireFormatIsRefused) {
  ExpectRefused("\x0A", "protobuf.truncated", {"offset"});
  ExpectRefused(std::string("\x0A") + Varint(2147483647) + "x", "protobuf.truncated",
                {"2147483647"});
  ExpectRefused(std::string("\x0A") + Varint(~uint64_t{0}) + "x", "protobuf.truncated",
                {"18446744073709551615"});
  ExpectRefused(std::string("\x02\x00", 2), "protobuf.tag", {"0"});
  ExpectRefused(std::string("\x00", 1), "protobuf.tag", {"0"});
  ExpectRefused("\x0E", "protobuf.tag", {"6"});
  ExpectRefused("\x0F", "protobuf.tag", {"7"});
  ExpectRefused(Varint(uint64_t{1} << 35), "protobuf.tag");
  ExpectRefused(Tag(5, 4), "protobuf.tag", {"field 5"});
  ExpectRefused(Tag(5, 3) + Tag(6, 4), "protobuf.tag", {"field 6"});
  ExpectRefused(Tag(5, 3), "protobuf.truncated", {"group"});
  ExpectRefused(std::string(100000, '\x0B'), "protobuf.depth", {"depth"});
  ExpectRefused(VarintField(1, 5), "protobuf.wire-type", {"field 1"});
  ExpectRefused(FivePieces() + BytesField(2, BytesField(3, "x")), "protobuf.wire-type",
                {"trainer_spec", "field 3"});
  ExpectRefused(FivePieces() + BytesField(3, VarintField(2, 1)), "protobuf.wire-type",
                {"normalizer_spec"});
  ExpectRefused(std::string(11, '\xFF'), "protobuf.varint");
  // A piece that reaches behind its own message, but not behind the file.
  ExpectRefused(BytesField(1, Tag(1, 2) + Varint(20) + "abc") + FivePieces(), "protobuf.truncated",
                {"20 bytes"});
}

TEST(SentencePiece, EveryTruncationIsRefusedOrAShorterModel) {
  const std::string whole = FivePieces() + LlamaSettings();
  for (size_t n = 0; n < whole.size(); ++n) {
    const auto error =
        ErrorOf([&] { EXPECT_LT(Parse(whole.substr(0, n)).tokenizer.tokens.size(), 6U); });
    EXPECT_TRUE(!error || error->code() == ErrorCode::kData) << error->what();
  }
}

TEST(SentencePiece, EveryFlippedBitIsAnErrorOrAModel) {
  std::string bytes = FivePieces() + LlamaSettings();
  for (size_t i = 0; i < bytes.size() * 8; ++i) {
    bytes[i / 8] = static_cast<char>(bytes[i / 8] ^ (1 << (i % 8)));
    const auto error = ErrorOf([&] { Parse(bytes); });
    EXPECT_TRUE(!error || error->code() == ErrorCode::kData) << error->what();
    bytes[i / 8] = static_cast<char>(bytes[i / 8] ^ (1 << (i % 8)));
  }
}

// A table for precompiled_charsmap: one block of units, then one string.
std::string Charsmap(uint32_t root, uint32_t other = 0, uint32_t trie_bytes = 1024,
                     const std::string& strings = std::string("x\0", 2)) {
  std::string out(4 + 1024, '\0');
  std::memcpy(out.data(), &trie_bytes, 4);
  std::memcpy(out.data() + 4, &root, 4);
  std::memcpy(out.data() + 4 + 4 * 7, &other, 4);
  return out + strings;
}

TEST(SentencePiece, CharsmapsMustBeSound) {
  const auto Model = [](const std::string& charsmap) {
    return FivePieces() + BytesField(3, BytesField(2, charsmap));
  };
  EXPECT_EQ(Parse(Model(Charsmap(0))).charsmap_bytes, 1030U);
  EXPECT_EQ(Parse(Model(Charsmap(0xFF << 10, 0x80000001))).charsmap_bytes, 1030U);
  EXPECT_EQ(Parse(Model("")).charsmap_bytes, 0U);
  const auto Refuse = [&](const std::string& charsmap, const std::string& word) {
    ExpectRefused(Model(charsmap), "spm.charsmap", {"charsmap", word});
  };
  Refuse("abc", "3 bytes");
  Refuse(std::string("\x04\0\0\0\x00\xFC\xFF\xFFx\0", 10), "4 bytes");
  Refuse(Charsmap(0, 0, 0), "0 bytes");
  Refuse(Charsmap(0, 0, 2048), "2048 bytes");
  Refuse(Charsmap(0, 0, 0xFFFFFC00), "4294966272");
  Refuse(Charsmap(0, 0, 1024, ""), "1024 bytes");
  Refuse(Charsmap(0, 0, 1024, "x"), "byte 120");
  Refuse(Charsmap(0x80000000), "unit 0");               // a root that is a value
  Refuse(Charsmap(0xFFFFFC00 & 0x7FFFFFFF), "unit 0");  // children far outside
  Refuse(Charsmap(0, 0x80000002), "unit 7");            // a value behind the strings
  Refuse(Charsmap(0, 1 << 10 << 8), "unit 7");
}

TEST(SentencePiece, OnlyLlamasWayOfTokenizingIsConverted) {
  const auto Convert = [](const std::string& bytes) {
    return ReadSentencePieceModel(AsBytes(bytes), "FILE");
  };
  const std::string pieces = FivePieces() + BytePieces();
  EXPECT_EQ(Convert(pieces + LlamaSettings()).tokens.size(), 261U);
  const auto Refuse = [&](const std::string& trainer, const std::string& normalizer,
                          std::string_view id, const std::string& word) {
    const std::string bytes = pieces +
                              BytesField(2, VarintField(3, 2) + VarintField(35, 1) + trainer) +
                              BytesField(3, normalizer);
    EXPECT_NO_THROW(Parse(bytes));
    ExpectError([&] { Convert(bytes); }, ErrorCode::kUnsupported, id, {"FILE", word});
  };
  Refuse(VarintField(3, 1), "", "spm.algorithm", "unigram");
  Refuse(VarintField(3, 4), "", "spm.algorithm", "char");
  Refuse(VarintField(3, 9), "", "spm.algorithm", "9");
  Refuse(VarintField(35, 0), "", "spm.byte-fallback", "byte_fallback");
  Refuse(VarintField(24, 1), "", "spm.normalizer", "treat_whitespace_as_suffix");
  Refuse("", VarintField(5, 0), "spm.normalizer", "escape_whitespaces");
  Refuse("", BytesField(1, "nmt_nfkc") + BytesField(2, Charsmap(0)), "spm.normalizer", "nmt_nfkc");
  // Real models of Llama's kind have this by default, and llama.cpp does not honour it.
  EXPECT_NO_THROW(Convert(pieces + LlamaSettings() + BytesField(3, VarintField(4, 1))));
}

TEST(SentencePiece, IsToldByItsFirstBytes) {
  const auto Looks = [](const std::string& bytes) {
    return LooksLikeSentencePiece(AsBytes(bytes));
  };
  EXPECT_TRUE(Looks(FivePieces()));
  EXPECT_TRUE(Looks(Piece(std::string(120, 'x'))));
  for (const std::string other : {"", "\n", "\n\n\n\n", "{}", "IQ== 0\n", "\x0A\x02\x0A\x05"})
    EXPECT_FALSE(Looks(other));
}

TEST(SentencePiece, ReadsTheFixturesTokenizers) {
  for (const auto& [path, n_pieces] : {std::pair("/stories260K/meta-f32/tokenizer.model", 512U),
                                       std::pair("/fixture/meta-2/tokenizer.model", 1024U)}) {
    const std::string bytes = ReadWholeFile(QUERN_TEST_DATA + std::string(path), 1 << 20);
    EXPECT_TRUE(LooksLikeSentencePiece(AsBytes(bytes)));
    const Tokenizer t = ReadSentencePieceModel(AsBytes(bytes), path);
    EXPECT_EQ(t.tokens.size(), n_pieces);
    EXPECT_EQ(t.tokens[0], "<unk>");
    EXPECT_EQ(t.tokens[3], "<0x00>");
    EXPECT_EQ(t.types[3], TokenType::kByte);
  }
}

TEST(SentencePiece, ReadsLlamasTokenizer) {
  const std::string path = testing::AssetsFolder() + "/tokenizers/llama2/tokenizer.model";
  if (!FileIdOf(path)) GTEST_SKIP() << "assets are missing: " << path;
  const std::string bytes = ReadWholeFile(path, 1 << 20);
  const SentencePieceModel m = Parse(bytes);
  EXPECT_EQ(m.normalizer_name, "identity");
  EXPECT_FALSE(m.remove_extra_whitespaces);
  const Tokenizer t = ReadSentencePieceModel(AsBytes(bytes), path);
  EXPECT_EQ(t.tokens.size(), 32000U);
  EXPECT_EQ(t.tokens[259], "\xE2\x96\x81\xE2\x96\x81");
  EXPECT_EQ(t.scores[259], -1e9F);
  EXPECT_EQ(t.scores[260], -1.0F);
  EXPECT_EQ(t.scores[31999], -31740.0F);
  EXPECT_EQ(t.bos_id, 1U);
  EXPECT_EQ(t.eos_id, 2U);
  EXPECT_EQ(t.unk_id, 0U);
  EXPECT_FALSE(t.pad_id.has_value());
}

}  // namespace
}  // namespace quern
