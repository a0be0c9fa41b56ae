// The one exception type of quern, and how messages from it are worded.
//
// Libraries never print, exit or abort: they throw Error, and main() catches it once.
// A message says what went wrong, where (file; tensor, key or entry; byte offset), what was found
// and what was expected, and ends with a stable id in brackets; a hint says what to do:
//
//   FILE: what, where (byte N), found X, expected Y [stable.id]
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <string_view>

namespace quern {

// The values are the exit codes of the program (README, "Exit codes").
enum class ErrorCode : int {
  kUsage = 2,        // The command line is wrong.
  kData = 3,         // The input is damaged or hostile.
  kUnsupported = 4,  // The input is valid, but this version cannot do it.
  kSystem = 5,       // The system refused: missing, permission, disk full, output exists.
  kUndecided = 6,    // The gates could not be decided on this text.
  kMemory = 7,       // Does not fit in --memory.
  kBug = 70,         // A defect of quern itself.
};

class Error : public std::exception {
 public:
  // `id` is stable over versions ("gguf.tensor-offset"); `what` is a short lower-case phrase
  // without a full stop.
  Error(ErrorCode code, std::string_view id, std::string_view what);

  // Each sets one part of the message and returns *this, so that a throw reads as one sentence.
  // Text that came from a file must pass through Quoted() or Escaped() first.
  Error& File(std::string_view name);
  Error& Where(std::string_view where);
  // Where() for a tensor, by its name as it stands in the file: "tensor 'NAME'", or
  // "tensor 'NAME', MORE".
  Error& Tensor(std::string_view name, std::string_view more = {});
  Error& Offset(uint64_t byte_offset);
  Error& Found(std::string_view found);
  Error& Expected(std::string_view expected);
  Error& Hint(std::string_view hint);

  ErrorCode code() const noexcept { return code_; }
  const std::string& id() const noexcept { return id_; }
  const std::string& file() const noexcept { return file_; }
  // The name that Tensor() was given, escaped; empty without.
  const std::string& tensor() const noexcept { return tensor_; }
  std::optional<uint64_t> offset() const noexcept { return offset_; }
  const std::string& hint() const noexcept { return hint_; }
  bool has_file() const noexcept { return !file_.empty(); }
  // The whole line without the hint.
  const char* what() const noexcept override { return line_.c_str(); }

 private:
  void Compose();

  ErrorCode code_;
  std::string id_, what_, file_, where_, tensor_, found_, expected_, hint_, line_;
  std::optional<uint64_t> offset_;
};

// Shorthands for the two codes that readers throw most.
inline Error DataError(std::string_view id, std::string_view what) {
  return Error(ErrorCode::kData, id, what);
}
inline Error UnsupportedError(std::string_view id, std::string_view what) {
  return Error(ErrorCode::kUnsupported, id, what);
}

// Returns an error of code kSystem for the failed system call `action` on `file`, with errno's
// text. `err` is the saved errno.
Error SystemError(std::string_view id, std::string_view action, std::string_view file, int err);

// Returns `text` safe for a terminal and a log: control bytes, backslashes, quotes and bytes that
// are no valid UTF-8 appear as \xNN (NUL as "\x00"), and text longer than `max_bytes` is cut with
// "…".
std::string Escaped(std::string_view text, size_t max_bytes = 120);
// Escaped() between single quotes.
std::string Quoted(std::string_view text, size_t max_bytes = 120);

// Returns true if `text` is well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF);
// otherwise `*bad_offset` (if given) is the offset of the first offending byte.
// Source: RFC 3629, section 4.
bool IsUtf8(std::string_view text, size_t* bad_offset = nullptr);

}  // namespace quern
