#include "formats/pickle.h"

#include <fmt/format.h>

#include <algorithm>

#include "formats/core/check.h"
#include "formats/core/error.h"
#include "formats/pickle_opcodes.h"

namespace quern {

using Kind = PickleValue::Kind;

namespace {

// Returns the digits of an integer in two's complement, little-endian.
std::string DecimalOf(ByteView bytes) {
  constexpr size_t kMaxBytes = 32;
  if (bytes.size() > kMaxBytes) return fmt::format("an integer of {} bytes", bytes.size());
  std::vector<uint8_t> rest(bytes.begin(), bytes.end());  // its magnitude
  const bool is_negative = (bytes.back() & 0x80) != 0;
  if (is_negative) {
    unsigned carry = 1;
    for (uint8_t& byte : rest) {
      carry += static_cast<uint8_t>(~byte);
      byte = static_cast<uint8_t>(carry);
      carry >>= 8;
    }
  }
  std::string digits;
  while (!rest.empty()) {
    unsigned remainder = 0;
    for (size_t i = rest.size(); i-- > 0;) {
      const unsigned value = remainder << 8 | rest[i];
      rest[i] = static_cast<uint8_t>(value / 10);
      remainder = value % 10;
    }
    digits += static_cast<char>('0' + remainder);
    while (!rest.empty() && rest.back() == 0) rest.pop_back();
  }
  if (is_negative) digits += '-';
  return {digits.rbegin(), digits.rend()};
}

}  // namespace

ByteView WithoutSignExtension(ByteView bytes) {
  const auto extends = [&] {
    const size_t n = bytes.size();
    if (n < 2) return false;
    const bool is_negative = (bytes[n - 2] & 0x80) != 0;
    return bytes[n - 1] == (is_negative ? 0xFF : 0);
  };
  while (extends()) bytes = bytes.first(bytes.size() - 1);
  return bytes;
}

// Refuses values that contain themselves, and depths that only later appends made too large. Each
// container is visited once; the path to it is never longer than the depth allowed.
void Pickle::CheckGraph(std::string_view file, std::string_view entry) const {
  struct Step {
    PickleValue value;
    PickleItems items;
    PickleValue before;  // the last item that is no container: a dict's key
  };
  const auto fail = [&](std::string_view id, std::string_view what, const std::vector<Step>& path) {
    const PickleValue key = path.back().before;
    Error error = DataError(id, what);
    error.Hint("the file is damaged or made to mislead: fetch it again from its publisher");
    error.File(file).Where("entry " + Quoted(entry) +
                           (key.kind() == Kind::kText ? ", key " + Quoted(Text(key)) : ""));
    return error;
  };
  const auto nests = [](PickleValue value) {
    return value.kind() >= Kind::kTuple && value.kind() != Kind::kGlobal && value.payload() != 0;
  };
  std::vector<bool> seen(pool_.size());
  std::vector<Step> path;
  path.push_back({root_, Items(root_), {}});
  if (nests(root_)) seen[root_.payload()] = true;
  while (!path.empty()) {
    const auto item = path.back().items.Next();
    if (!item) {
      path.pop_back();
      continue;
    }
    if (!nests(*item)) {
      path.back().before = *item;
    } else if (!seen[item->payload()]) {
      if (path.size() >= kPickleMaxDepth) {
        throw fail("pickle.depth", "nesting depth of the object is too large", path)
            .Expected(fmt::format("a depth of at most {}", kPickleMaxDepth));
      }
      seen[item->payload()] = true;
      path.push_back({*item, Items(*item), {}});
    } else if (std::any_of(path.begin(), path.end(),
                           [&](const Step& step) { return step.value == *item; })) {
      throw fail("pickle.cycle", "value contains itself", path);
    }
  }
}

std::optional<PickleValue> PickleItems::Next() {
  while (at_ == end_) {
    if (chunk_ == 0) return std::nullopt;
    const PickleValue head = (*pool_)[chunk_];
    at_ = chunk_ + 1;
    end_ = at_ + head.low();
    chunk_ = head.high();
  }
  return (*pool_)[at_++];
}

PickleItems Pickle::Items(PickleValue value) const {
  const uint64_t index = value.payload();
  switch (value.kind()) {
    case Kind::kTuple: case Kind::kPersistentId: return {pool_, 0, 0, index};
    case Kind::kList: case Kind::kDict: case Kind::kSet: return {pool_, 0, 0, pool_[index].low()};
    case Kind::kCall: return {pool_, index, index + 2, 0};
    default: return {pool_, 0, 0, 0};
  }
}

uint64_t Pickle::TupleSize(PickleValue value) const {
  QUERN_CHECK(value.kind() == Kind::kTuple || value.kind() == Kind::kPersistentId);
  return pool_[value.payload()].low();
}

std::vector<PickleValue> Pickle::TupleItems(PickleValue value) const {
  std::vector<PickleValue> values;
  values.reserve(TupleSize(value));
  PickleItems items = Items(value);
  while (const auto item = items.Next()) values.push_back(*item);
  return values;
}

int64_t Pickle::Int(PickleValue value) const {
  QUERN_CHECK(value.kind() == Kind::kInt || value.kind() == Kind::kBool);
  return value.signed_payload();
}

bool Pickle::IsNegative(PickleValue value) const {
  if (value.kind() != Kind::kBigInt) return Int(value) < 0;
  return (LongAt(value.payload()).back() & 0x80) != 0;
}

ByteView Pickle::LongAt(uint64_t opcode_offset) const {
  const uint8_t* p = bytes_.data() + opcode_offset + 1;
  const bool is_short = bytes_[opcode_offset] == kOpLong1;
  const ByteView bytes = is_short ? ByteView(p + 1, *p) : ByteView(p + 4, LoadLE<uint32_t>(p));
  return WithoutSignExtension(bytes);
}

std::string_view Pickle::Text(PickleValue value) const {
  QUERN_CHECK(value.kind() == Kind::kText);
  return TextAt(value.payload());
}

std::string_view Pickle::TextAt(uint64_t opcode_offset) const {
  const uint8_t* p = bytes_.data() + opcode_offset + 1;
  const auto text = [](const uint8_t* begin, uint64_t n) { return AsText({begin, n}); };
  switch (bytes_[opcode_offset]) {
    case kOpShortBinUnicode: case kOpShortBinString: return text(p + 1, *p);
    case kOpBinUnicode: case kOpBinString: return text(p + 4, LoadLE<uint32_t>(p));
    default: return text(p + 8, LoadLE<uint64_t>(p));  // BINUNICODE8
  }
}

const PickleGlobal& Pickle::Global(PickleValue value) const {
  QUERN_CHECK(value.kind() == Kind::kGlobal);
  return allowed_[value.payload()];
}

PickleValue Pickle::Callable(PickleValue call) const {
  QUERN_CHECK(call.kind() == Kind::kCall);
  return pool_[call.payload()];
}

PickleValue Pickle::Arguments(PickleValue call) const {
  QUERN_CHECK(call.kind() == Kind::kCall);
  return pool_[call.payload() + 1];
}

bool Pickle::IsText(PickleValue value, std::string_view text) const {
  return value.kind() == Kind::kText && Text(value) == text;
}

std::string Pickle::Describe(PickleValue value) const {
  const auto name_of = [&](PickleValue global) {
    return fmt::format("{}.{}", Global(global).module, Global(global).name);
  };
  switch (value.kind()) {
    case Kind::kUnset: return "nothing";
    case Kind::kNone: return "None";
    case Kind::kBool: return Int(value) != 0 ? "True" : "False";
    case Kind::kInt: return fmt::format("{}", Int(value));
    case Kind::kBigInt: return DecimalOf(LongAt(value.payload()));
    case Kind::kFloat: return "a float";
    case Kind::kText: return "the text " + Quoted(Text(value));
    case Kind::kBytes: return "bytes";
    case Kind::kTuple: return fmt::format("a tuple of {}", TupleSize(value));
    case Kind::kList: return "a list";
    case Kind::kDict: return "a dict";
    case Kind::kSet: return "a set";
    case Kind::kGlobal: return name_of(value);
    case Kind::kCall: return name_of(Callable(value)) + "(…)";
    case Kind::kPersistentId: return "a storage";
  }
  return "";
}

}  // namespace quern
