#include "converters/tokenizer_import.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <vector>

#include "formats/core/error.h"
#include "formats/formats.h"
#include "formats/sentencepiece_model.h"
#include "formats/text_index.h"

namespace quern {
namespace {

// Llama 3's longest token has 128 bytes, its file 2.2 MB, its merges 4 MB. The limits keep the
// splits that are tried, and the merges that are kept, in proportion to that.
constexpr size_t kMaxTokenBytes = 256;
constexpr size_t kMaxFileBytes = 6u << 20;
constexpr size_t kMaxMergeBytes = 12u << 20;
constexpr uint32_t kSpecialTokens = 256;

// -1 for bytes that are no digit of standard base64.
constexpr std::array<int8_t, 256> kBase64Values = [] {
  std::array<int8_t, 256> values{};
  values.fill(-1);
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < kDigits.size(); ++i) {
    values[static_cast<uint8_t>(kDigits[i])] = static_cast<int8_t>(i);
  }
  return values;
}();

// Returns the decoded bytes, or nothing if `text` is no canonical base64 with padding.
// Source: RFC 4648, section 4.
std::optional<std::string> DecodeBase64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  size_t n_padding = 0;
  while (n_padding < 2 && text[text.size() - 1 - n_padding] == '=') ++n_padding;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  uint32_t bits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool padding = i + n_padding >= text.size();
    const int value = padding ? 0 : kBase64Values[static_cast<uint8_t>(text[i])];
    if (value < 0) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(value);
    if (i % 4 == 3) {
      for (int shift = 16; shift >= 0; shift -= 8) {
        bytes.push_back(static_cast<char>(bits >> shift & 0xff));
      }
      bits = 0;
    }
  }
  for (size_t i = 0; i < n_padding; ++i) {
    if (bytes.back() != 0) return std::nullopt;  // bits behind the end: not canonical
    bytes.pop_back();
  }
  return bytes;
}

// One line "base64 rank" without its line end.
struct RankLine {
  std::string token;
  uint32_t rank;
};
std::optional<RankLine> ParseRankLine(std::string_view line) {
  const size_t space = line.find(' ');
  if (space == line.npos) return std::nullopt;
  const std::string_view digits = line.substr(space + 1);
  uint32_t rank = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), rank);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  // Longer tokens are refused by length, so there is no need to decode them.
  if (space > kMaxTokenBytes * 2) return RankLine{std::string(kMaxTokenBytes + 1, ' '), rank};
  auto token = DecodeBase64(line.substr(0, space));
  if (!token) return std::nullopt;
  return RankLine{std::move(*token), rank};
}

// Takes the next line off `text`, without its LF (or CR LF).
std::string_view TakeLine(std::string_view& text) {
  const size_t end = text.find('\n');
  std::string_view line = text.substr(0, end);
  text.remove_prefix(end == text.npos ? text.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

// Returns the error for what no writer of the format makes.
Error Malformed(std::string_view id, std::string_view what) {
  return DataError(id, what).Hint("fetch tokenizer.model again, from the same release as the weights");
}

Error LineError(std::string_view id, std::string_view what, std::string_view file, size_t line) {
  return Malformed(id, what).File(file).Where("line " + std::to_string(line));
}

// Returns the tokens of the file; index = rank.
std::vector<std::string> ReadRanks(std::string_view text, std::string_view file) {
  if (text.size() > kMaxFileBytes) {
    throw Malformed("tiktoken.too-large", "the file of ranks is too large")
        .File(file)
        .Found(std::to_string(text.size()) + " bytes")
        .Expected("at most " + std::to_string(kMaxFileBytes));
  }
  std::vector<std::string> ranks;
  for (size_t line_number = 1; !text.empty(); ++line_number) {
    const std::string_view line = TakeLine(text);
    if (line.empty()) continue;  // tiktoken's own loader skips them too
    auto parsed = ParseRankLine(line);
    if (!parsed) {
      throw LineError("tiktoken.line", "not a tiktoken rank", file, line_number)
          .Found(Quoted(line, 60))
          .Expected("base64, one space, a decimal rank");
    }
    if (parsed->rank != ranks.size()) {
      throw LineError("tiktoken.rank", "ranks are not dense and ascending", file, line_number)
          .Found(std::to_string(parsed->rank))
          .Expected(std::to_string(ranks.size()));
    }
    if (parsed->token.size() > kMaxTokenBytes) {
      throw LineError("tiktoken.token-length", "token is too long", file, line_number)
          .Expected("at most " + std::to_string(kMaxTokenBytes) + " bytes");
    }
    ranks.push_back(std::move(parsed->token));
  }
  return ranks;
}

using RankIndex = TextIndex<std::vector<std::string>>;

// Checks that no token is there twice, and every single byte is.
void CheckRanks(const std::vector<std::string>& ranks, const RankIndex& index,
                std::string_view file) {
  for (uint32_t rank = 0; rank < ranks.size(); ++rank) {
    const uint32_t first = *index.Find(ranks[rank]);
    if (first == rank) continue;
    throw Malformed("tiktoken.duplicate-token", "two ranks have the same bytes")
        .File(file)
        .Where("rank " + std::to_string(rank))
        .Found(Quoted(ranks[rank]) + " as in rank " + std::to_string(first));
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (!index.Has(std::string(1, static_cast<char>(byte)))) {
      throw Malformed("tiktoken.byte-missing", "no token for a single byte")
          .File(file)
          .Expected("a rank for byte " + std::to_string(byte));
    }
  }
}

// Appends every merge the ranks imply: for each token in rank order, all splits in two tokens, in
// order of the ranks of their halves. One merge per token would not do: 678 tokens of Llama 3 could
// not be built.
// Source: the conversion of tiktoken vocabularies in Hugging Face's transformers.
void AppendMerges(const std::vector<std::string>& ranks, const RankIndex& index,
                  std::string_view file, StringList& merges) {
  std::array<bool, kMaxTokenBytes + 1> has_length{};
  for (const std::string& token : ranks) has_length[token.size()] = true;
  struct Halves {
    uint32_t left, right;
    auto operator<=>(const Halves&) const = default;
  };
  std::vector<Halves> splits;
  for (const std::string_view token : ranks) {
    splits.clear();
    for (size_t cut = 1; cut < token.size(); ++cut) {
      if (!has_length[cut] || !has_length[token.size() - cut]) continue;
      const auto left = index.Find(token.substr(0, cut));
      if (!left) continue;
      if (const auto right = index.Find(token.substr(cut))) splits.push_back({*left, *right});
    }
    std::sort(splits.begin(), splits.end());
    for (const Halves& halves : splits) {
      merges.push_back(ByteLevelText(ranks[halves.left]) + " " + ByteLevelText(ranks[halves.right]));
    }
    if (merges.n_bytes() > kMaxMergeBytes) {
      throw UnsupportedError("tiktoken.merges", "the ranks imply too many merges")
          .File(file)
          .Found(std::to_string(merges.size()) + " merges of " +
                 std::to_string(merges.n_bytes()) + " bytes")
          .Expected("Llama 3 has 280147")
          .Hint("this vocabulary is none of Llama's");
    }
  }
}

// Returns the name of the special token `i` places behind the ranks.
// Source: llama/tokenizer.py of meta-llama/llama3; tokenizer.json of Llama 3.1.
std::string SpecialTokenName(uint32_t i, TiktokenNames names) {
  const auto reserved = [](uint32_t n) {
    return "<|reserved_special_token_" + std::to_string(n) + "|>";
  };
  const bool is31 = names == TiktokenNames::kLlama31;
  switch (i) {
    case 0: return "<|begin_of_text|>";
    case 1: return "<|end_of_text|>";
    case 2: return reserved(0);
    case 3: return reserved(1);
    case 4: return is31 ? "<|finetune_right_pad_id|>" : reserved(2);
    case 5: return is31 ? reserved(2) : reserved(3);
    case 6: return "<|start_header_id|>";
    case 7: return "<|end_header_id|>";
    case 8: return is31 ? "<|eom_id|>" : reserved(4);
    case 9: return "<|eot_id|>";
    case 10: return is31 ? "<|python_tag|>" : reserved(5);
    default: return reserved(is31 ? i - 8 : i - 5);
  }
}

}  // namespace

void FindInfillTokens(Tokenizer& tokenizer) {
  for (size_t id = 0; id < tokenizer.tokens.size(); ++id) {
    const std::string_view text = tokenizer.tokens[id];
    const auto id32 = static_cast<uint32_t>(id);
    if (text == "▁<PRE>") tokenizer.fim_prefix_id = id32;
    if (text == "▁<SUF>") tokenizer.fim_suffix_id = id32;
    if (text == "▁<MID>") tokenizer.fim_middle_id = id32;
    if (text == "▁<EOT>") tokenizer.eot_id = id32;
  }
}

std::string ByteLevelText(std::string_view bytes) {
  // The bytes that do not print map to U+0100, U+0101, … in ascending order.
  static const std::array<uint16_t, 256> kCodePoints = [] {
    std::array<uint16_t, 256> code_points{};
    uint16_t next = 0x100;
    for (uint16_t byte = 0; byte < 256; ++byte) {
      const bool prints = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
      code_points[byte] = prints ? byte : next++;
    }
    return code_points;
  }();
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) {
    const uint16_t code_point = kCodePoints[static_cast<uint8_t>(byte)];
    if (code_point < 0x80) {
      text.push_back(static_cast<char>(code_point));
    } else {  // all are below U+0800: two bytes
      text.push_back(static_cast<char>(0xc0 | code_point >> 6));
      text.push_back(static_cast<char>(0x80 | (code_point & 0x3f)));
    }
  }
  return text;
}

Tokenizer ReadTiktokenModel(ByteView bytes, std::string_view file, TiktokenNames names) {
  const std::vector<std::string> ranks = ReadRanks(AsText(bytes), file);
  const RankIndex index(ranks);
  CheckRanks(ranks, index, file);
  Tokenizer tokenizer;
  tokenizer.kind = Tokenizer::Kind::kBytePair;
  tokenizer.pre = "llama-bpe";
  for (const std::string& token : ranks) tokenizer.tokens.push_back(ByteLevelText(token));
  tokenizer.types.assign(ranks.size(), TokenType::kNormal);
  for (uint32_t i = 0; i < kSpecialTokens; ++i) {
    const std::string name = SpecialTokenName(i, names);
    if (index.Has(name)) {
      throw Malformed("tiktoken.special-token", "a rank has the text of a special token")
          .File(file)
          .Found(Quoted(name));
    }
    tokenizer.tokens.push_back(name);
    tokenizer.types.push_back(TokenType::kControl);
  }
  AppendMerges(ranks, index, file, tokenizer.merges);
  const auto first_special = static_cast<uint32_t>(ranks.size());
  tokenizer.bos_id = first_special;
  tokenizer.eos_id = first_special + 1;
  if (names == TiktokenNames::kLlama31) tokenizer.eom_id = first_special + 8;
  tokenizer.eot_id = first_special + 9;
  tokenizer.add_bos = true;
  return tokenizer;
}

Tokenizer ReadMetaTokenizer(ByteView bytes, std::string_view file, TiktokenNames names) {
  if (LooksLikeTiktoken(AsText(bytes))) return ReadTiktokenModel(bytes, file, names);
  if (!LooksLikeSentencePiece(bytes)) {
    throw Malformed("tokenizer.format", "neither a SentencePiece model nor a file of tiktoken ranks")
        .File(file)
        .Found(Quoted(AsText(bytes).substr(0, 16)))
        .Hint("take tokenizer.model from the same release as the weights");
  }
  Tokenizer tokenizer = ReadSentencePieceModel(bytes, file);
  FindInfillTokens(tokenizer);
  return tokenizer;
}

std::optional<uint32_t> FindToken(const Tokenizer& tokenizer, std::string_view text) {
  for (size_t id = 0; id < tokenizer.tokens.size(); ++id) {
    if (tokenizer.tokens[id] == text) return static_cast<uint32_t>(id);
  }
  return std::nullopt;
}

std::string PaddingToken(uint64_t id) { return "[PAD" + std::to_string(id) + "]"; }

void PadTokenizer(Tokenizer& tokenizer, uint64_t n_rows, uint64_t max_padding,
                  std::string_view file, Faults& faults) {
  const uint64_t n_tokens = tokenizer.tokens.size();
  if (n_tokens == n_rows) return;
  if (n_tokens > n_rows) {
    throw Malformed("tokenizer.too-long", "the vocabulary has more tokens than the embedding rows")
        .File(file)
        .Found(std::to_string(n_tokens) + " tokens")
        .Expected("at most " + std::to_string(n_rows) + ", the rows of the token embedding")
        .Hint("the vocabulary is of another model than the weights, or the embedding was not resized for it");
  }
  if (n_rows - n_tokens > max_padding) {
    throw DataError("tokenizer.too-short", "the vocabulary has far fewer tokens than the embedding rows")
        .File(file)
        .Found(std::to_string(n_tokens) + " tokens")
        .Expected("about " + std::to_string(n_rows) + ", the rows of the token embedding")
        .Hint("the file is cut off, or of another model than the weights: fetch it again");
  }
  faults.Warn(DataError("tokenizer.padded", "the vocabulary has fewer tokens than the embedding rows")
                  .File(file)
                  .Found(std::to_string(n_tokens) + " tokens")
                  .Expected(std::to_string(n_rows) + "; the rest becomes unused tokens " +
                            Quoted(PaddingToken(n_tokens)) + " and so on"));
  // A piece may itself be called "[PAD…]"; equal texts would make llama.cpp abort.
  StringList taken;
  for (size_t id = 0; id < n_tokens; ++id) {
    if (tokenizer.tokens[id].starts_with("[PAD")) taken.push_back(tokenizer.tokens[id]);
  }
  const TextIndex index(taken);
  if (tokenizer.types.empty()) tokenizer.types.assign(n_tokens, TokenType::kNormal);
  for (uint64_t id = n_tokens; id < n_rows; ++id) {
    std::string text = PaddingToken(id);
    while (index.Has(text)) text += "_";
    tokenizer.tokens.push_back(text);
    tokenizer.types.push_back(TokenType::kUnused);
    if (!tokenizer.scores.empty()) tokenizer.scores.push_back(kPaddingScore);
  }
}

}  // namespace quern
