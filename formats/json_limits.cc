#include "formats/json_limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <deque>
#include <nlohmann/json.hpp>
#include <vector>

#include "formats/core/bytes.h"
#include "formats/core/check.h"
#include "formats/core/error.h"
#include "formats/core/hash.h"

namespace quern {
namespace {

using Kind = JsonValue::Kind;

// A document is a list of words, one or two per value in document order; a key is a string before its
// value. The three low bits of a word are the kind, the others by kind:
//   null, bool      the value in bit 3
//   uint            the value in bits 4 to 63; with bit 3 set, in the next word
//   int, double     the value's bits in the next word
//   string          bits 3 to 25 the number of bytes, bits 26 to 63 where it begins in the texts
//   array, object   bits 3 to 31 the number of elements, bits 32 to 63 the index behind the last
constexpr unsigned kKindBits = 3;
constexpr uint64_t kNextWord = 8;  // bit 3 of uint
constexpr unsigned kUintShift = 4, kStringShift = 26, kEndShift = 32;
static_assert(kJsonMaxStringBytes < uint64_t{1} << (kStringShift - kKindBits));

constexpr Kind KindOf(uint64_t word) { return static_cast<Kind>(word & 7); }
constexpr uint64_t SizeOf(uint64_t word) {  // of a string or container
  const unsigned end = KindOf(word) == Kind::kString ? kStringShift : kEndShift;
  return (word & ((uint64_t{1} << end) - 1)) >> kKindBits;
}

// Returns the number as JSON has it: 8.0 is no integer, and must not look like one in a message.
std::string DoubleText(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == text.npos) text += ".0";
  return text;
}

}  // namespace

struct JsonTape {
  std::deque<uint64_t> words;  // a deque grows without a second copy
  std::string text;            // all strings, one after the other

  Kind KindAt(uint32_t index) const { return KindOf(words[index]); }
  std::string_view TextAt(uint32_t index) const {
    return std::string_view(text).substr(words[index] >> kStringShift, SizeOf(words[index]));
  }
  // Returns the index behind the value at `index`, its children included.
  uint32_t Skip(uint32_t index) const {
    const uint64_t word = words[index];
    switch (KindOf(word)) {
      case Kind::kArray:
      case Kind::kObject:
        return static_cast<uint32_t>(word >> kEndShift);
      case Kind::kInt:
      case Kind::kDouble:
        return index + 2;
      case Kind::kUint:
        return index + (word & kNextWord ? 2 : 1);
      default:
        return index + 1;
    }
  }
};

namespace {

// What to do about a text that is no JSON, or none that two readers would read alike.
constexpr std::string_view kHint = "fetch the file again, or mend it at this place";
constexpr std::string_view kLimitHint =
    "quern limits what it takes from JSON; no file of a known model comes near";

// nlohmann keeps all text since the last string or number began; none has as much between them.
constexpr size_t kMaxGapBytes = size_t{2} << 20;

// Checks of the text that need no parser, so that the parser never sees what would make it
// expensive: depth, the length of strings, surrogates that are no pair.
class TextScan {
 public:
  TextScan(std::string_view text, std::string_view file, uint64_t file_offset)
      : text_(text), file_(file), file_offset_(file_offset) {}

  void Run() {
    size_t bad_offset = 0;
    if (!IsUtf8(text_, &bad_offset)) {
      throw Placed(DataError("text.utf8", "text is no valid UTF-8"), bad_offset).Hint(kHint);
    }
    if (text_.starts_with("\xEF\xBB\xBF")) {
      throw Placed(DataError("json.syntax", "text begins with a byte order mark"), 0)
          .Hint("save the file as UTF-8 without one");
    }
    unsigned depth = 0;
    size_t gap_begin = 0;
    for (size_t i = 0; i < text_.size(); ++i) {
      const char c = text_[i];
      if (c == '"') {
        const size_t end = EndOfString(i);
        string_bytes_ += end - i;
        i = gap_begin = end;
      } else if (c >= '0' && c <= '9') {
        gap_begin = i;
      } else if (c == '[' || c == '{') {
        if (++depth > kJsonMaxDepth) {
          throw Placed(
              DataError("json.depth", "nesting depth of arrays and objects is too large"), i)
              .Expected(fmt::format("a depth of at most {}", kJsonMaxDepth))
              .Hint(kHint);
        }
      } else if ((c == ']' || c == '}') && depth > 0) {
        --depth;
      } else if (c == '\0') {
        // The parser would take it for the end, and whatever follows for nothing.
        throw Placed(DataError("json.syntax", "text holds a NUL byte"), i).Hint(kHint);
      }
      if (i - gap_begin > kMaxGapBytes) ThrowLimit("too much text without a string or number", i);
    }
  }

  // Units: bytes of all strings and keys, as they are written.
  size_t string_bytes() const { return string_bytes_; }

 private:
  // Returns the offset of the closing quote of the string that opens at `begin`, or the end.
  size_t EndOfString(size_t begin) const {
    size_t i = begin + 1;
    for (; i < text_.size() && text_[i] != '"'; ++i) {
      if (text_[i] != '\\') continue;
      ++i;
      const unsigned unit = CodeUnit(i);
      if (unit >= 0xDC00 && unit <= 0xDFFF) ThrowLoneSurrogate(i - 1);
      if (unit >= 0xD800 && unit <= 0xDBFF) {
        const unsigned low = i + 5 < text_.size() && text_[i + 5] == '\\' ? CodeUnit(i + 6) : 0;
        if (low < 0xDC00 || low > 0xDFFF) ThrowLoneSurrogate(i - 1);
        i += 6;
      }
    }
    i = std::min(i, text_.size());  // an escape at the end of the text leads beyond it
    if (i - begin > kJsonMaxStringBytes) ThrowLimit("string is too long", begin);
    return i;
  }

  // Returns the UTF-16 code unit of the escape whose 'u' is at `i`; 0 if there is no such escape.
  unsigned CodeUnit(size_t i) const {
    if (i + 5 > text_.size() || text_[i] != 'u') return 0;
    unsigned unit = 0;
    for (size_t k = i + 1; k < i + 5; ++k) {
      const char c = text_[k];
      const bool is_digit = c >= '0' && c <= '9';
      const char lower = static_cast<char>(c | 0x20);
      if (!is_digit && (lower < 'a' || lower > 'f')) return 0;
      unit = unit * 16 + static_cast<unsigned>(is_digit ? c - '0' : lower - 'a' + 10);
    }
    return unit;
  }

  Error Placed(Error error, size_t offset) const {
    return error.File(file_).Offset(file_offset_ + offset);
  }
  [[noreturn]] void ThrowLimit(std::string_view what, size_t offset) const {
    throw Placed(UnsupportedError("json.limit", what), offset).Hint(kLimitHint);
  }
  [[noreturn]] void ThrowLoneSurrogate(size_t offset) const {
    throw Placed(DataError("text.utf8", "escape of one half of a surrogate pair"), offset)
        .Expected("two halves, or a code point outside U+D800 to U+DFFF")
        .Hint(kHint);
  }

  std::string_view text_, file_;
  uint64_t file_offset_;
  size_t string_bytes_ = 0;
};

// Receives nlohmann's events and writes the tape.
class TapeWriter {
 public:
  TapeWriter(JsonTape& tape, std::string_view file, uint64_t file_offset, uint64_t max_words)
      : tape_(tape), file_(file), file_offset_(file_offset), max_words_(max_words) {}

  bool null() { return Scalar(Kind::kNull, 0); }
  bool boolean(bool value) { return Scalar(Kind::kBool, uint64_t{value} << kKindBits); }
  bool number_integer(int64_t value) {
    if (value >= 0) return number_unsigned(static_cast<uint64_t>(value));
    Scalar(Kind::kInt, 0);
    return Push(static_cast<uint64_t>(value));
  }
  bool number_unsigned(uint64_t value) {
    if (value >> (64 - kUintShift) == 0) return Scalar(Kind::kUint, value << kUintShift);
    Scalar(Kind::kUint, kNextWord);
    return Push(value);
  }
  bool number_float(double value, const std::string&) {
    Scalar(Kind::kDouble, 0);
    return Push(std::bit_cast<uint64_t>(value));
  }
  bool string(std::string& value) {
    CountInParent();
    return Text(value);
  }
  bool key(std::string& value) { return Text(value); }
  bool binary(std::vector<uint8_t>&) { return false; }  // JSON text has none
  bool start_object(size_t) { return Open(Kind::kObject); }
  bool start_array(size_t) { return Open(Kind::kArray); }
  bool end_object() {
    CheckDuplicates(open_.back());
    return Close();
  }
  bool end_array() { return Close(); }
  bool parse_error(size_t position, const std::string& last_token,
                   const nlohmann::json::exception& error) {
    // 406 is the id of a number beyond the range of double.
    const bool is_range = error.id == 406;
    Error thrown = DataError("json.syntax", is_range ? "number out of range" : "syntax error");
    thrown.File(file_).Offset(file_offset_ + (position == 0 ? 0 : position - 1)).Hint(kHint);
    thrown.Found(last_token.empty() ? "the end" : Quoted(last_token, 40));
    throw thrown;
  }

 private:
  bool Push(uint64_t word) {
    if (tape_.words.size() >= max_words_) {
      throw UnsupportedError("json.limit", "document has too many values")
          .File(file_)
          .Expected(fmt::format("at most {}", max_words_))
          .Hint(kLimitHint);
    }
    tape_.words.push_back(word);
    return true;
  }
  void CountInParent() {
    if (!open_.empty()) tape_.words[open_.back()] += uint64_t{1} << kKindBits;
  }
  bool Scalar(Kind kind, uint64_t payload) {
    CountInParent();
    return Push(static_cast<uint64_t>(kind) | payload);
  }
  bool Text(const std::string& value) {
    Push(static_cast<uint64_t>(Kind::kString) | uint64_t{value.size()} << kKindBits |
         uint64_t{tape_.text.size()} << kStringShift);
    tape_.text += value;
    return true;
  }
  bool Open(Kind kind) {
    Scalar(kind, 0);
    open_.push_back(static_cast<uint32_t>(tape_.words.size() - 1));
    return true;
  }
  bool Close() {
    tape_.words[open_.back()] |= uint64_t{tape_.words.size()} << kEndShift;
    open_.pop_back();
    return true;
  }

  // Sorting by hash, then by text, is safe from crafted collisions and needs 8 bytes per key.
  void CheckDuplicates(uint32_t object) {
    struct Entry {
      uint32_t hash, index;
    };
    std::vector<Entry> keys;
    keys.reserve(SizeOf(tape_.words[object]));
    const auto text_of = [&](const Entry& entry) { return tape_.TextAt(entry.index); };
    for (uint32_t i = object + 1; i < tape_.words.size(); i = tape_.Skip(i + 1)) {
      keys.push_back({static_cast<uint32_t>(Xxh3(AsBytes(tape_.TextAt(i)))), i});
    }
    std::sort(keys.begin(), keys.end(), [&](const Entry& a, const Entry& b) {
      return a.hash != b.hash ? a.hash < b.hash : text_of(a) < text_of(b);
    });
    const auto equal = [&](const Entry& a, const Entry& b) {
      return a.hash == b.hash && text_of(a) == text_of(b);
    };
    const auto twice = std::adjacent_find(keys.begin(), keys.end(), equal);
    if (twice == keys.end()) return;
    throw DataError("json.duplicate-key", "object has the same key twice")
        .File(file_)
        .Where("key " + Quoted(text_of(*twice)))
        .Hint(kHint);
  }

  JsonTape& tape_;
  std::string_view file_;
  uint64_t file_offset_, max_words_;
  std::vector<uint32_t> open_;  // the containers around the current place
};

}  // namespace

JsonValue ParseJson(std::string_view text, std::string_view file, uint64_t file_offset) {
  const std::string escaped_file = Escaped(file, 4096);
  TextScan scan(text, escaped_file, file_offset);
  scan.Run();
  auto tape = std::make_shared<JsonTape>();
  tape->text.reserve(scan.string_bytes());
  // A word has 8 bytes: strings and values together stay in proportion to the text.
  const uint64_t max_words = kJsonFreeValues + (text.size() - scan.string_bytes()) / 8;
  QUERN_CHECK(max_words < uint64_t{1} << (kEndShift - kKindBits));
  TapeWriter writer(*tape, escaped_file, file_offset, max_words);
  QUERN_CHECK(nlohmann::json::sax_parse(text, &writer));
  return JsonValue(std::move(tape), 0);
}

JsonValue ParseJsonObject(std::string_view text, std::string_view file, std::string_view wanted) {
  JsonValue root = ParseJson(text, file);
  if (root.is_object()) return root;
  throw DataError("config.value", "not an object")
      .File(Escaped(file, 4096))
      .Found(root.ToString())
      .Expected(wanted)
      .Hint("fetch the file again");
}

JsonValue::Kind JsonValue::kind() const { return tape_->KindAt(index_); }

bool JsonValue::Bool() const {
  QUERN_CHECK(kind() == Kind::kBool);
  return tape_->words[index_] >> kKindBits != 0;
}

uint64_t JsonValue::Uint() const {
  QUERN_CHECK(kind() == Kind::kUint);
  const uint64_t word = tape_->words[index_];
  return word & kNextWord ? tape_->words[index_ + 1] : word >> kUintShift;
}

int64_t JsonValue::Int() const {
  QUERN_CHECK(kind() == Kind::kInt);
  return static_cast<int64_t>(tape_->words[index_ + 1]);
}

double JsonValue::Number() const {
  if (kind() == Kind::kUint) return static_cast<double>(Uint());
  if (kind() == Kind::kInt) return static_cast<double>(Int());
  QUERN_CHECK(kind() == Kind::kDouble);
  return std::bit_cast<double>(tape_->words[index_ + 1]);
}

std::string_view JsonValue::String() const {
  QUERN_CHECK(is_string());
  return tape_->TextAt(index_);
}

size_t JsonValue::size() const {
  QUERN_CHECK(is_array() || is_object());
  return SizeOf(tape_->words[index_]);
}

JsonValue::Items JsonValue::items() const {
  QUERN_CHECK(is_array() || is_object());
  return Items(*this);
}

std::optional<JsonValue> JsonValue::Find(std::string_view key) const {
  QUERN_CHECK(is_object());
  const uint32_t end = tape_->Skip(index_);
  for (uint32_t i = index_ + 1; i < end; i = tape_->Skip(i + 1)) {
    if (tape_->TextAt(i) == key) return JsonValue(tape_, i + 1);
  }
  return std::nullopt;
}

std::string JsonValue::ToString() const {
  switch (kind()) {
    case Kind::kNull: return "null";
    case Kind::kBool: return Bool() ? "true" : "false";
    case Kind::kUint: return fmt::format("{}", Uint());
    case Kind::kInt: return fmt::format("{}", Int());
    case Kind::kDouble: return DoubleText(Number());
    case Kind::kString: return "\"" + Escaped(String()) + "\"";
    case Kind::kArray: return fmt::format("an array of {} elements", size());
    case Kind::kObject: return fmt::format("an object of {} members", size());
  }
  return "";
}

JsonValue::Items::Iterator JsonValue::Items::begin() const { return {owner_, owner_.index_ + 1}; }

JsonValue::Items::Iterator JsonValue::Items::end() const {
  return {owner_, owner_.tape_->Skip(owner_.index_)};
}

JsonItem JsonValue::Items::Iterator::operator*() const {
  const JsonTape& tape = *owner_->tape_;
  if (!owner_->is_object()) return {"", JsonValue(owner_->tape_, index_)};
  return {tape.TextAt(index_), JsonValue(owner_->tape_, index_ + 1)};
}

JsonValue::Items::Iterator& JsonValue::Items::Iterator::operator++() {
  index_ = owner_->tape_->Skip(owner_->is_object() ? index_ + 1 : index_);
  return *this;
}

void ThrowConfigValue(std::string_view file, std::string_view key, std::string_view found,
                      std::string_view expected) {
  throw DataError("config.value", "configuration value cannot be used")
      .File(Escaped(file, 4096))
      .Where("key " + Quoted(key))
      .Found(found)
      .Expected(expected)
      .Hint("fetch the file again, or set the value that the model was trained with");
}

std::optional<uint64_t> OptionalUint(const JsonValue& object, std::string_view key, uint64_t max,
                                     std::string_view file) {
  const auto value = object.Find(key);
  if (!value || value->kind() == Kind::kNull) return std::nullopt;
  if (value->kind() != Kind::kUint || value->Uint() > max) {
    ThrowConfigValue(file, key, value->ToString(), fmt::format("an integer from 0 to {}", max));
  }
  return value->Uint();
}

uint64_t RequireUint(const JsonValue& object, std::string_view key, uint64_t max,
                     std::string_view file) {
  const auto value = OptionalUint(object, key, max, file);
  if (!value) ThrowConfigValue(file, key, "none", fmt::format("an integer from 0 to {}", max));
  return *value;
}

std::optional<double> OptionalDouble(const JsonValue& object, std::string_view key,
                                     std::string_view file) {
  const auto value = object.Find(key);
  if (!value || value->kind() == Kind::kNull) return std::nullopt;
  const bool is_number =
      value->kind() == Kind::kUint || value->kind() == Kind::kInt || value->kind() == Kind::kDouble;
  if (!is_number) ThrowConfigValue(file, key, value->ToString(), "a number");
  return value->Number();
}

double RequireDouble(const JsonValue& object, std::string_view key, std::string_view file) {
  const auto value = OptionalDouble(object, key, file);
  if (!value) ThrowConfigValue(file, key, "none", "a number");
  return *value;
}

std::optional<bool> OptionalBool(const JsonValue& object, std::string_view key,
                                 std::string_view file) {
  const auto value = object.Find(key);
  if (!value || value->kind() == Kind::kNull) return std::nullopt;
  if (value->kind() != Kind::kBool) ThrowConfigValue(file, key, value->ToString(), "true or false");
  return value->Bool();
}

std::optional<std::string> OptionalString(const JsonValue& object, std::string_view key,
                                          std::string_view file) {
  const auto value = object.Find(key);
  if (!value || value->kind() == Kind::kNull) return std::nullopt;
  if (!value->is_string()) ThrowConfigValue(file, key, value->ToString(), "a string");
  return std::string(value->String());
}

void CheckShardName(std::string_view shard, std::string_view index_file) {
  const auto is_foreign = [](char c) {
    return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
  };
  const bool is_plain = !shard.empty() && shard != "." && shard != ".." &&
                        std::ranges::none_of(shard, is_foreign);
  if (is_plain) return;
  throw DataError("index.path", "index names a file that is not in its own folder")
      .File(Escaped(index_file, 4096))
      .Found(Quoted(shard))
      .Expected("a plain file name")
      .Hint("put all files of the model into one folder and name them plainly in the index");
}

}  // namespace quern
