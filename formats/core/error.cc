#include "formats/core/error.h"

#include <fmt/format.h>

#include <cstring>

namespace quern {
namespace {

// Returns the length of the well-formed UTF-8 sequence that begins at text[i], or 0 if there is
// none.
size_t Utf8SequenceLength(std::string_view text, size_t i) {
  const auto byte = [&](size_t k) { return static_cast<uint8_t>(text[k]); };
  const uint8_t lead = byte(i);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() - i < length) return 0;
  for (size_t k = 1; k < length; ++k) {
    if ((byte(i + k) & 0xC0) != 0x80) return 0;
  }
  const uint8_t second = byte(i + 1);
  if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
      (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) {
    return 0;  // Overlong, surrogate, or beyond U+10FFFF.
  }
  return length;
}

}  // namespace

Error::Error(ErrorCode code, std::string_view id, std::string_view what)
    : code_(code), id_(id), what_(what) {
  Compose();
}

Error& Error::File(std::string_view name) {
  file_ = name;
  Compose();
  return *this;
}
Error& Error::Where(std::string_view where) {
  where_ = where;
  Compose();
  return *this;
}
Error& Error::Tensor(std::string_view name, std::string_view more) {
  tensor_ = Escaped(name);
  return Where(fmt::format("tensor {}{}{}", Quoted(name), more.empty() ? "" : ", ", more));
}
Error& Error::Offset(uint64_t byte_offset) {
  offset_ = byte_offset;
  Compose();
  return *this;
}
Error& Error::Found(std::string_view found) {
  found_ = found;
  Compose();
  return *this;
}
Error& Error::Expected(std::string_view expected) {
  expected_ = expected;
  Compose();
  return *this;
}
Error& Error::Hint(std::string_view hint) {
  hint_ = hint;
  return *this;
}

void Error::Compose() {
  line_.clear();
  if (!file_.empty()) line_ += file_ + ": ";
  line_ += what_;
  if (!where_.empty()) line_ += ", " + where_;
  if (offset_) line_ += fmt::format(" (byte offset {})", *offset_);
  if (!found_.empty()) line_ += ", found " + found_;
  if (!expected_.empty()) line_ += ", expected " + expected_;
  line_ += " [" + id_ + "]";
}

Error SystemError(std::string_view id, std::string_view action, std::string_view file, int err) {
  char buffer[256];
  // The GNU variant of strerror_r returns the text, which need not be in `buffer`.
  const char* text = strerror_r(err, buffer, sizeof buffer);
  Error error(ErrorCode::kSystem, id, fmt::format("cannot {}: {}", action, text));
  error.File(Escaped(file, 4096));
  return error;
}

std::string Escaped(std::string_view text, size_t max_bytes) {
  std::string out;
  size_t i = 0;
  while (i < text.size()) {
    if (i >= max_bytes) return out + "…";
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    const size_t length = Utf8SequenceLength(text, i);
    // C1 controls (U+0080..U+009F) steer terminals too.
    const bool is_c1 = length == 2 && byte == 0xC2 && static_cast<uint8_t>(text[i + 1]) < 0xA0;
    if (length == 0 || is_c1 || byte < 0x20 || byte == 0x7F || byte == '\'' || byte == '\\') {
      const size_t n_escaped = is_c1 ? 2 : 1;
      for (size_t k = 0; k < n_escaped; ++k) {
        out += fmt::format("\\x{:02x}", static_cast<uint8_t>(text[i + k]));
      }
      i += n_escaped;
    } else {
      out.append(text, i, length);
      i += length;
    }
  }
  return out;
}

std::string Quoted(std::string_view text, size_t max_bytes) {
  return "'" + Escaped(text, max_bytes) + "'";
}

bool IsUtf8(std::string_view text, size_t* bad_offset) {
  for (size_t i = 0; i < text.size();) {
    const size_t length = Utf8SequenceLength(text, i);
    if (length == 0) {
      if (bad_offset != nullptr) *bad_offset = i;
      return false;
    }
    i += length;
  }
  return true;
}

}  // namespace quern
