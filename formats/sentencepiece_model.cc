#include "formats/sentencepiece_model.h"

#include <fmt/format.h>
#include <google/protobuf/io/coded_stream.h>

#include <cmath>
#include <limits>

#include "formats/core/check.h"
#include "formats/core/checked.h"
#include "formats/duplicates.h"

namespace quern {
namespace {

// Real models have up to 256,000 pieces of at most some hundred bytes.
constexpr uint64_t kMaxPieces = uint64_t{1} << 20;
constexpr uint64_t kMaxPieceBytes = 8192;
// Protobuf's own limit for nested messages and groups.
constexpr uint32_t kMaxDepth = 100;

// Wire types of Protocol Buffers.
enum : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kGroup = 3, kEndGroup = 4, kFixed32 = 5 };

struct Field {
  uint32_t number = 0;
  uint32_t wire_type = 0;
};

// Reads the fields of a message, one after the other, never past the end of the innermost message.
class WireReader {
 public:
  WireReader(ByteView bytes, std::string_view file)
      : bytes_(bytes), file_(file), in_(bytes.data(), static_cast<int>(bytes.size())) {}

  uint64_t offset() const { return static_cast<uint64_t>(in_.CurrentPosition()); }

  Error Data(std::string_view id, std::string_view what) const {
    std::string where(section_);
    if (piece_) where += fmt::format(" {}", *piece_);
    if (piece_ && !text_.empty()) where += " " + Quoted(text_);
    return DataError(id, what)
        .File(Escaped(file_, 4096))
        .Where(where)
        .Offset(offset())
        .Hint("the file is damaged or made to mislead: fetch it again from its publisher");
  }
  // Where errors say they are, from now on.
  void SetWhere(std::string_view section) {
    section_ = section;
    piece_.reset();
  }
  void SetPiece(size_t index, std::string_view text) {
    section_ = "piece";
    piece_ = index;
    text_ = text;
  }

  // Returns the next field of the message, or nothing at its end.
  std::optional<Field> Next() {
    if (Remaining() == 0) return std::nullopt;
    const uint64_t tag = Varint("a field's tag");
    const Field field{static_cast<uint32_t>(tag >> 3), static_cast<uint32_t>(tag & 7)};
    if (tag > std::numeric_limits<uint32_t>::max() || field.number == 0) {
      throw Data("protobuf.tag", "impossible field number").Found(std::to_string(tag >> 3));
    }
    if (field.wire_type > kFixed32) {
      throw Data("protobuf.tag", "impossible wire type").Found(std::to_string(field.wire_type));
    }
    return field;
  }

  uint64_t Varint(std::string_view what) {
    const uint64_t remaining = Remaining();
    uint64_t value = 0;
    if (in_.ReadVarint64(&value)) return value;
    // Ten bytes that never end are no matter of truncation.
    if (remaining >= 10)
      throw Data("protobuf.varint", fmt::format("number in {} is too long", what));
    throw Truncated(what, remaining, remaining + 1);
  }
  float Float(std::string_view what) {
    const ByteView bytes = Take(4, what);
    return LoadLE<float>(bytes.data());
  }
  // Returns the payload of a length-delimited field.
  ByteView Bytes(std::string_view what) { return Take(Length(what), what); }

  // Calls `on_field` for each field of the sub-message that follows.
  template <typename OnField>
  void Message(std::string_view what, OnField on_field) {
    const auto limit = in_.PushLimit(static_cast<int>(Length(what)));
    while (const auto field = Next()) on_field(*field);
    in_.PopLimit(limit);
  }

  void Require(const Field& field, uint32_t wire_type) const {
    if (field.wire_type == wire_type) return;
    throw Data("protobuf.wire-type", fmt::format("field {} has the wrong wire type", field.number))
        .Found(std::to_string(field.wire_type))
        .Expected(std::to_string(wire_type));
  }

  void Skip(const Field& field);

 private:
  uint64_t Remaining() const {
    const int in_message = in_.BytesUntilLimit();
    return in_message >= 0 ? static_cast<uint64_t>(in_message) : bytes_.size() - offset();
  }
  Error Truncated(std::string_view what, uint64_t found, uint64_t expected) const {
    return Data("protobuf.truncated", fmt::format("data ends inside {}", what))
        .Found(fmt::format("{} bytes", found))
        .Expected(fmt::format("{} bytes", expected))
        .Hint("the file is incomplete, or no SentencePiece model");
  }
  uint64_t Length(std::string_view what) {
    const uint64_t length = Varint(what);
    if (length > Remaining()) throw Truncated(what, Remaining(), length);
    return length;
  }
  ByteView Take(uint64_t n, std::string_view what) {
    if (n > Remaining()) throw Truncated(what, Remaining(), n);
    const ByteView bytes = bytes_.subspan(offset(), n);
    in_.Skip(static_cast<int>(n));
    return bytes;
  }

  ByteView bytes_;
  std::string_view file_;
  std::string_view section_ = "model";
  std::optional<size_t> piece_;
  std::string_view text_;
  google::protobuf::io::CodedInputStream in_;
};

// Skips an unknown field. Groups are walked with a list of open ones, never by recursion.
void WireReader::Skip(const Field& field) {
  std::vector<uint32_t> open_groups;
  for (Field current = field;;) {
    switch (current.wire_type) {
      case kVarint:
        Varint("an unknown field");
        break;
      case kFixed64:
        Take(8, "an unknown field");
        break;
      case kBytes:
        Bytes("an unknown field");
        break;
      case kFixed32:
        Take(4, "an unknown field");
        break;
      case kGroup:
        if (open_groups.size() == kMaxDepth) {
          throw Data("protobuf.depth", fmt::format("groups nest beyond depth {}", kMaxDepth));
        }
        open_groups.push_back(current.number);
        break;
      default:
        if (open_groups.empty() || open_groups.back() != current.number) {
          throw Data("protobuf.tag", "end of a group that is not open")
              .Found(fmt::format("field {}", current.number));
        }
        open_groups.pop_back();
    }
    if (open_groups.empty()) return;
    const auto next = Next();
    if (!next) throw Truncated("a group", 0, 1);
    current = *next;
  }
}

// Checks a normalizer's table: a double array (Darts) in front of NUL-terminated strings. quern
// never walks it, but other tools do, and crash on a bad one. Source: darts-clone (the layout of a
// unit); sentencepiece's normalizer.cc.
void CheckCharsmap(const WireReader& reader, ByteView charsmap) {
  constexpr uint64_t kBlockBytes = 1024;  // Darts fills its array in blocks of 256 units.
  const auto Bad = [&](std::string_view what, std::string_view found) {
    return reader.Data("spm.charsmap", fmt::format("precompiled_charsmap {}", what)).Found(found);
  };
  if (charsmap.size() < 4)
    throw Bad("is too short for its header", fmt::format("{} bytes", charsmap.size()));
  const uint64_t trie_bytes = LoadLE<uint32_t>(charsmap.data());
  if (trie_bytes == 0 || trie_bytes % kBlockBytes != 0 || trie_bytes >= charsmap.size() - 4) {
    throw Bad("has an impossible size of its trie",
              fmt::format("{} bytes in {}", trie_bytes, charsmap.size()));
  }
  const ByteView strings = charsmap.subspan(4 + trie_bytes);
  if (strings.back() != 0)
    throw Bad("does not end its strings", fmt::format("byte {}", strings.back()));
  const uint64_t n_units = trie_bytes / 4;
  for (uint64_t i = 0; i < n_units; ++i) {
    const uint32_t unit = LoadLE<uint32_t>(&charsmap[4 + 4 * i]);
    const bool is_leaf = unit >> 31 != 0;
    const uint32_t offset = (unit >> 10) << ((unit & 0x200) >> 6);
    const bool is_sound =
        is_leaf ? i != 0 && (unit & 0x7FFFFFFF) < strings.size() : (i ^ offset) < n_units;
    if (!is_sound)
      throw Bad("has a trie that leads outside", fmt::format("unit {} = {:#010x}", i, unit));
  }
}

class ModelReader {
 public:
  ModelReader(ByteView bytes, std::string_view file) : in_(bytes, file) {
    model_.tokenizer.kind = Tokenizer::Kind::kSentencePiece;
    model_.tokenizer.pre = "default";
    model_.tokenizer.tokens.reserve(0, bytes.size());
  }

  SentencePieceModel Read() {
    while (const auto field = in_.Next()) {
      if (field->number == 1 && field->wire_type != kGroup) {
        ReadPiece(*field);
      } else if (field->number == 2 && field->wire_type != kGroup) {
        ReadTrainerSpec(*field);
      } else if (field->number == 3 && field->wire_type != kGroup) {
        ReadNormalizerSpec(*field);
      } else {
        in_.Skip(*field);
      }
    }
    CheckPieces();
    Tokenizer& t = model_.tokenizer;
    const SentencePieceModel defaults;
    t.unk_id = IdOf(model_.unk_id, defaults.unk_id, "unk_id");
    t.bos_id = IdOf(model_.bos_id, defaults.bos_id, "bos_id");
    t.eos_id = IdOf(model_.eos_id, defaults.eos_id, "eos_id");
    t.pad_id = IdOf(model_.pad_id, defaults.pad_id, "pad_id");
    // Rules of Llama's own tokenizer.py: a text begins with bos and does not end with eos.
    t.add_bos = t.bos_id.has_value();
    t.add_eos = false;
    t.add_space_prefix = model_.add_dummy_prefix;
    return std::move(model_);
  }

 private:
  void ReadPiece(const Field& field) {
    Tokenizer& t = model_.tokenizer;
    const size_t index = t.tokens.size();
    in_.SetPiece(index, "");
    if (index == kMaxPieces)
      throw in_.Data("spm.piece-count", "too many pieces")
          .Expected(fmt::format("at most {}", kMaxPieces));
    in_.Require(field, kBytes);
    std::string_view text;
    float score = 0;
    uint64_t type = static_cast<uint64_t>(TokenType::kNormal);  // the proto's default
    in_.Message("a piece", [&](const Field& part) {
      if (part.number == 1) {
        in_.Require(part, kBytes);
        text = AsText(in_.Bytes("a piece's text"));
      } else if (part.number == 2) {
        in_.Require(part, kFixed32);
        score = in_.Float("a piece's score");
      } else if (part.number == 3) {
        in_.Require(part, kVarint);
        type = in_.Varint("a piece's type");
      } else {
        in_.Skip(part);
      }
    });
    CheckPiece(index, text, score, type);
    t.tokens.push_back(text);
    t.scores.push_back(score);
    t.types.push_back(static_cast<TokenType>(type));
    in_.SetWhere("model");
  }

  void CheckPiece(size_t index, std::string_view text, float score, uint64_t type) {
    if (text.empty() || text.size() > kMaxPieceBytes) {
      throw in_.Data("spm.piece-length", "length of the piece is out of range")
          .Found(fmt::format("{} bytes", text.size()))
          .Expected(fmt::format("1 to {}", kMaxPieceBytes));
    }
    in_.SetPiece(index, text);
    if (!IsUtf8(text)) throw in_.Data("text.utf8", "piece is not UTF-8");
    if (text.find('\0') != text.npos) {
      throw in_.Data("spm.piece-text", "piece holds a NUL byte")
          .Found(Quoted(text, 60))
          .Hint("llama.cpp aborts on such a vocabulary");
    }
    if (type < 1 || type > static_cast<uint64_t>(TokenType::kByte)) {
      throw in_.Data("spm.piece-type", "unknown type of piece")
          .Found(std::to_string(type))
          .Expected("1 to 6");
    }
    if (!std::isfinite(score))
      throw in_.Data("spm.score", "score is not finite").Found(fmt::format("{}", score));
  }

  void ReadTrainerSpec(const Field& field) {
    in_.SetWhere("trainer_spec");
    in_.Require(field, kBytes);
    in_.Message("the trainer_spec", [&](const Field& part) {
      switch (part.number) {
        case 3:
          model_.algorithm = static_cast<SentencePieceAlgorithm>(Int32(part));
          break;
        case 24:
          model_.treat_whitespace_as_suffix = Bool(part);
          break;
        case 35:
          model_.byte_fallback = Bool(part);
          break;
        case 40:
          model_.unk_id = Int32(part);
          break;
        case 41:
          model_.bos_id = Int32(part);
          break;
        case 42:
          model_.eos_id = Int32(part);
          break;
        case 43:
          model_.pad_id = Int32(part);
          break;
        default:
          in_.Skip(part);
      }
    });
    in_.SetWhere("model");
  }

  void ReadNormalizerSpec(const Field& field) {
    in_.SetWhere("normalizer_spec");
    in_.Require(field, kBytes);
    in_.Message("the normalizer_spec", [&](const Field& part) {
      switch (part.number) {
        case 1:
          in_.Require(part, kBytes);
          model_.normalizer_name = AsText(in_.Bytes("the normalizer's name"));
          break;
        case 2: {
          in_.Require(part, kBytes);
          const ByteView charsmap = in_.Bytes("the precompiled_charsmap");
          if (!charsmap.empty()) CheckCharsmap(in_, charsmap);
          model_.charsmap_bytes = charsmap.size();
          break;
        }
        case 3:
          model_.add_dummy_prefix = Bool(part);
          break;
        case 4:
          model_.remove_extra_whitespaces = Bool(part);
          break;
        case 5:
          model_.escape_whitespaces = Bool(part);
          break;
        default:
          in_.Skip(part);
      }
    });
    in_.SetWhere("model");
  }

  // Negative numbers of 32 bits come as ten bytes, sign-extended; Protobuf takes the low half.
  int32_t Int32(const Field& field) {
    in_.Require(field, kVarint);
    return static_cast<int32_t>(static_cast<uint32_t>(in_.Varint("a number")));
  }
  bool Bool(const Field& field) {
    in_.Require(field, kVarint);
    return in_.Varint("a switch") != 0;
  }

  void CheckPieces() {
    const StringList& tokens = model_.tokenizer.tokens;
    if (tokens.empty()) {
      throw in_.Data("spm.no-pieces", "model has no pieces")
          .Hint("the file is empty, or no SentencePiece model");
    }
    if (const auto i = FirstDuplicate(tokens.size(), [&](size_t k) { return tokens[k]; })) {
      in_.SetPiece(*i, tokens[*i]);
      throw in_.Data("spm.duplicate-piece", "piece appears twice");
    }
    CheckUnknown();
    CheckBytes();
  }

  void CheckUnknown() {
    const auto& types = model_.tokenizer.types;
    const auto n_unknown = std::ranges::count(types, TokenType::kUnknown);
    if (n_unknown == 1) return;
    throw in_.Data("spm.unknown-piece", "model has not exactly one piece for unknown text")
        .Found(std::to_string(n_unknown))
        .Expected("1 of type UNKNOWN");
  }

  // Byte pieces stand for text that no other piece spells: all of them, if there is byte_fallback.
  void CheckBytes() {
    const Tokenizer& t = model_.tokenizer;
    std::array<bool, 256> has_byte{};
    for (size_t i = 0; i < t.tokens.size(); ++i) {
      if (t.types[i] != TokenType::kByte) continue;
      const auto byte = ByteOfPiece(t.tokens[i]);
      if (!byte) {
        in_.SetPiece(i, t.tokens[i]);
        throw in_.Data("spm.byte-piece", "piece of type BYTE names no byte")
            .Found(Quoted(t.tokens[i], 60))
            .Expected("'<0x00>' to '<0xFF>'");
      }
      has_byte[*byte] = true;
    }
    const auto missing = std::ranges::find(has_byte, false);
    if (!model_.byte_fallback || missing == has_byte.end()) return;
    throw in_.Data("spm.byte-piece", "model with byte_fallback lacks the piece of a byte")
        .Found(fmt::format("{} pieces of type BYTE", std::ranges::count(has_byte, true)))
        .Expected(fmt::format("256, also '<0x{:02X}>'", missing - has_byte.begin()));
  }

  // Returns the id of a special piece; -1 stands for none, and so does a default that a small
  // vocabulary has no room for.
  std::optional<uint32_t> IdOf(int32_t id, int32_t otherwise, std::string_view name) const {
    const size_t n_pieces = model_.tokenizer.tokens.size();
    if (id >= 0 && static_cast<size_t>(id) < n_pieces) return static_cast<uint32_t>(id);
    if (id < 0 || id == otherwise) return std::nullopt;
    throw in_.Data("spm.special-id", fmt::format("{} of the trainer_spec names no piece", name))
        .Found(std::to_string(id))
        .Expected(fmt::format("below {}, the number of pieces, or -1", n_pieces));
  }

  WireReader in_;
  SentencePieceModel model_;
};

std::string NameOfAlgorithm(SentencePieceAlgorithm algorithm) {
  switch (algorithm) {
    case SentencePieceAlgorithm::kUnigram:
      return "unigram";
    case SentencePieceAlgorithm::kBpe:
      return "bpe";
    case SentencePieceAlgorithm::kWord:
      return "word";
    case SentencePieceAlgorithm::kChar:
      return "char";
  }
  return std::to_string(static_cast<int32_t>(algorithm));
}

}  // namespace

std::optional<uint8_t> ByteOfPiece(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  if (text.size() != 6 || !text.starts_with("<0x") || !text.ends_with('>')) return std::nullopt;
  const size_t high = kDigits.find(text[3]), low = kDigits.find(text[4]);
  if (high == kDigits.npos || low == kDigits.npos) return std::nullopt;
  return static_cast<uint8_t>(high * 16 + low);
}

bool LooksLikeSentencePiece(ByteView head) {
  // Field 1 (a piece), its length of one or two bytes, field 1 in it (the text) with a length that
  // fits.
  if (head.size() < 4 || head[0] != 0x0A) return false;
  size_t i = 1;
  uint32_t length = head[i++];
  if (length >= 0x80) length = (length & 0x7F) | uint32_t{head[i++]} << 7;
  return length >= 2 && i + 1 < head.size() && head[i] == 0x0A && head[i + 1] <= length - 2;
}

SentencePieceModel ParseSentencePieceModel(ByteView bytes, std::string_view file) {
  // CodedInputStream counts in int.
  if (bytes.size() > uint64_t{std::numeric_limits<int>::max()}) {
    throw UnsupportedError("spm.limit", "file is too large for a SentencePiece model")
        .File(Escaped(file, 4096))
        .Found(fmt::format("{} bytes", bytes.size()));
  }
  return ModelReader(bytes, file).Read();
}

void RequireLlamaTokenizer(const SentencePieceModel& model, std::string_view file) {
  const auto Refuse = [&](std::string_view id, std::string_view where, std::string_view found,
                          std::string_view expected) {
    throw UnsupportedError(id, "tokenizer works in another way than Llama's")
        .File(Escaped(file, 4096))
        .Where(where)
        .Found(found)
        .Expected(expected)
        .Hint("no GGUF vocabulary of this kind could say so: texts would be cut differently");
  };
  if (model.algorithm != SentencePieceAlgorithm::kBpe) {
    Refuse("spm.algorithm", "trainer_spec.model_type", NameOfAlgorithm(model.algorithm), "bpe");
  }
  if (model.treat_whitespace_as_suffix) {
    Refuse("spm.normalizer", "trainer_spec.treat_whitespace_as_suffix", "true", "false");
  }
  if (!model.byte_fallback)
    Refuse("spm.byte-fallback", "trainer_spec.byte_fallback", "false", "true");
  if (model.charsmap_bytes != 0) {
    Refuse("spm.normalizer", "normalizer_spec.precompiled_charsmap",
           fmt::format("{} bytes of {}", model.charsmap_bytes, Quoted(model.normalizer_name)),
           "none");
  }
  if (!model.escape_whitespaces)
    Refuse("spm.normalizer", "normalizer_spec.escape_whitespaces", "false", "true");
}

Tokenizer ReadSentencePieceModel(ByteView bytes, std::string_view file) {
  SentencePieceModel model = ParseSentencePieceModel(bytes, file);
  RequireLlamaTokenizer(model, file);
  return std::move(model.tokenizer);
}

}  // namespace quern
