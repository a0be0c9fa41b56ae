// llama.cpp's base-logits files: what a model predicted at the scored positions of a text's windows,
// so that others can be compared with it without evaluating it again.
//
//   "_logits_"; u32 context, i32 vocab_size, i32 n_windows; i32 tokens[n_windows * context], as the
//   text has them; then window after window, for each position from context / 2 to context - 2 a row:
//   f32 scale, f32 minimum, u16 codes[vocab_size], a u16 of padding where vocab_size is odd.
//
// The model's log-probability of entry i is scale * codes[i] + minimum. What is 16 nats or more below
// the most likely entry has code 0: it is only known to be unlikely.
//
// Source: llama.cpp, tools/perplexity (the file layout and how values are rounded).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/core/file.h"

namespace quern {

inline constexpr std::string_view kLogitsMagic = "_logits_";
// A row's entries end this far below its most likely one. Units: nats.
inline constexpr float kLogitsRange = 16;
// Sums of a row's probabilities are this near to 1, whatever adds them up.
inline constexpr double kLogitsRounding = 0.01;
// Shorter windows have no scored position.
inline constexpr uint64_t kLogitsMinContext = 4;

struct LogitsLayout {
  uint64_t context = 0;     // tokens per window, at least kLogitsMinContext
  uint64_t vocab_size = 0;  // at least 1
  uint64_t n_windows = 0;   // at least 1

  uint64_t rows_per_window() const { return context - 1 - context / 2; }
  uint64_t row_bytes() const { return 8 + 2 * (vocab_size + vocab_size % 2); }
  uint64_t rows_offset() const { return kLogitsMagic.size() + 12 + 4 * n_windows * context; }
  // Requires: values in the range of i32 that make a file (LogitsFile checks that).
  uint64_t file_bytes() const {
    return rows_offset() + n_windows * rows_per_window() * row_bytes();
  }
};

// A file with its header, length and tokens checked. Rows are checked as they are read. Methods may
// be called from many threads at once.
class LogitsFile {
 public:
  // Throws: Error kData "logits.header" for another magic or numbers that make no sense,
  // "logits.size" unless the file is as long as these say.
  explicit LogitsFile(std::unique_ptr<const RandomAccessBytes> bytes);

  const std::string& name() const { return bytes_->name(); }
  const LogitsLayout& layout() const { return layout_; }

  // Returns the tokens of the windows [first, first + count), as the text has them.
  // Throws: Error kData "logits.token" for one outside the vocabulary.
  std::vector<int32_t> Tokens(uint64_t first, uint64_t count) const;

  // How the codes of a row become log-probabilities.
  struct Row {
    float scale = 0;    // finite, not negative
    float minimum = 0;  // finite; scale * 65535 + minimum is at most kLogitsRounding
  };
  // Throws: Error kData "logits.row" naming window and position.
  Row ReadRow(uint64_t window, uint64_t row) const;

  // Writes the log-probabilities of the entries [begin, begin + out.size()).
  // Requires: `scaling` is ReadRow(window, row).
  void ReadLogP(uint64_t window, uint64_t row, Row scaling, uint64_t begin,
                std::span<float> out) const;

  // Returns a hash that tells files apart: of the header, the tokens and the scales of the first
  // row of each window.
  uint64_t Fingerprint() const;

 private:
  uint64_t RowOffset(uint64_t window, uint64_t row) const {
    return layout_.rows_offset() +
           (window * layout_.rows_per_window() + row) * layout_.row_bytes();
  }

  std::unique_ptr<const RandomAccessBytes> bytes_;
  LogitsLayout layout_;
};

// Writes a file from front to back.
class LogitsWriter {
 public:
  // Writes the header. Requires: `tokens` are layout.n_windows * layout.context; numbers fit i32.
  LogitsWriter(std::unique_ptr<Output> output, const LogitsLayout& layout,
               std::span<const int32_t> tokens);

  // Encodes a row. Shape: logits [vocab_size], finite; out [row_bytes].
  static void EncodeRow(std::span<const float> logits, MutableByteView out);

  // Takes the next rows, encoded. Throws: as Output::Write.
  void Put(ByteView rows);
  // Throws: as Output::Commit. Requires: all rows were put.
  void Finish();

 private:
  std::unique_ptr<Output> output_;
  uint64_t n_bytes_left_;  // of rows
};

}  // namespace quern
