#include "formats/logits_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/core/check.h"
#include "formats/core/checked.h"
#include "formats/core/error.h"
#include "formats/core/hash.h"

namespace quern {
namespace {

constexpr uint64_t kHeaderBytes = kLogitsMagic.size() + 12;

// Returns the length of a file of these numbers, or nothing if that does not fit 64 bits.
std::optional<uint64_t> CheckedFileBytes(const LogitsLayout& layout) {
  const auto n_rows = CheckedMul(layout.n_windows, layout.rows_per_window());
  const auto row_bytes = n_rows ? CheckedMul(*n_rows, layout.row_bytes()) : std::nullopt;
  const auto n_tokens = CheckedMul(layout.n_windows, layout.context);
  const auto token_bytes = n_tokens ? CheckedMul(*n_tokens, 4) : std::nullopt;
  if (!row_bytes || !token_bytes) return std::nullopt;
  const auto data_bytes = CheckedAdd(*row_bytes, *token_bytes);
  return data_bytes ? CheckedAdd(*data_bytes, kHeaderBytes) : std::nullopt;
}

}  // namespace

LogitsFile::LogitsFile(std::unique_ptr<const RandomAccessBytes> bytes) : bytes_(std::move(bytes)) {
  const std::string file = Escaped(name(), 4096);
  const auto refuse = [&](std::string_view id, std::string_view what, uint64_t offset,
                          const std::string& found, const std::string& expected) {
    throw DataError(id, what)
        .File(file)
        .Offset(offset)
        .Found(found)
        .Expected(expected)
        .Hint("make the file with quern perplexity --save-logits, or llama-perplexity "
              "--kl-divergence-base");
  };
  uint8_t header[kHeaderBytes] = {};
  const uint64_t n_head = std::min<uint64_t>(kHeaderBytes, bytes_->size_bytes());
  bytes_->ReadAt(0, MutableByteView(header).first(n_head));
  const std::string_view magic = AsText(ByteView(header).first(kLogitsMagic.size()));
  if (magic != kLogitsMagic) {
    refuse("logits.header", "this is no file of logits", 0,
           Quoted(AsText(ByteView(header).first(std::min<size_t>(n_head, magic.size())))),
           Quoted(kLogitsMagic));
  }
  if (n_head < kHeaderBytes) {
    refuse("logits.header", "file ends in its header", n_head, fmt::format("{} bytes", n_head),
           fmt::format("at least {}", kHeaderBytes));
  }
  const auto number = [&](size_t field, std::string_view what, int32_t minimum) {
    const size_t offset = kLogitsMagic.size() + 4 * field;
    const auto value = LoadLE<int32_t>(header + offset);
    if (value < minimum) {
      refuse("logits.header", fmt::format("impossible {}", what), offset,
             fmt::format("{}", value), fmt::format("at least {}", minimum));
    }
    return static_cast<uint64_t>(value);
  };
  layout_.context = number(0, "number of tokens per window", int32_t{kLogitsMinContext});
  layout_.vocab_size = number(1, "size of the vocabulary", 1);
  layout_.n_windows = number(2, "number of windows", 1);
  const auto expected = CheckedFileBytes(layout_);
  if (expected != bytes_->size_bytes()) {
    const bool shorter = !expected || *expected > bytes_->size_bytes();
    refuse("logits.size", shorter ? "file ends early" : "file is longer than its header says",
           std::min(expected.value_or(UINT64_MAX), bytes_->size_bytes()),
           fmt::format("{} bytes", bytes_->size_bytes()),
           expected ? fmt::format("{} bytes for {} windows of {} tokens, {} entries", *expected,
                                  layout_.n_windows, layout_.context, layout_.vocab_size)
                    : "numbers that make a file");
  }
}

std::vector<int32_t> LogitsFile::Tokens(uint64_t first, uint64_t count) const {
  QUERN_CHECK(FitsWithin(first, count, layout_.n_windows));
  std::vector<int32_t> tokens(count * layout_.context);
  const uint64_t offset = kHeaderBytes + 4 * first * layout_.context;
  bytes_->ReadAt(offset, {reinterpret_cast<uint8_t*>(tokens.data()), 4 * tokens.size()});
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && static_cast<uint64_t>(tokens[i]) < layout_.vocab_size) continue;
    throw DataError("logits.token", "a token is outside the vocabulary")
        .File(Escaped(name(), 4096))
        .Where(fmt::format("window {}, token {}", first + i / layout_.context,
                           i % layout_.context))
        .Offset(offset + 4 * i)
        .Found(fmt::format("{}", tokens[i]))
        .Expected(fmt::format("0 to {}", layout_.vocab_size - 1));
  }
  return tokens;
}

LogitsFile::Row LogitsFile::ReadRow(uint64_t window, uint64_t row) const {
  QUERN_CHECK(window < layout_.n_windows && row < layout_.rows_per_window());
  const uint64_t offset = RowOffset(window, row);
  uint8_t bytes[8];
  bytes_->ReadAt(offset, bytes);
  const Row scaling = {LoadLE<float>(bytes), LoadLE<float>(bytes + 4)};
  // A probability is at most 1.
  const float maximum = scaling.scale * 65535 + scaling.minimum;
  const bool good = scaling.scale >= 0 && std::isfinite(scaling.minimum) &&
                    std::isfinite(scaling.scale) && double{maximum} <= kLogitsRounding;
  if (!good) {
    throw DataError("logits.row", "a row's scale makes no probabilities")
        .File(Escaped(name(), 4096))
        .Where(fmt::format("window {}, position {}", window, layout_.context / 2 + row))
        .Offset(offset)
        .Found(fmt::format("scale {}, minimum {}", scaling.scale, scaling.minimum))
        .Expected("finite numbers, log-probabilities of at most 0")
        .Hint("the file is damaged: make it anew");
  }
  return scaling;
}

void LogitsFile::ReadLogP(uint64_t window, uint64_t row, Row scaling, uint64_t begin,
                          std::span<float> out) const {
  QUERN_CHECK(FitsWithin(begin, out.size(), layout_.vocab_size));
  uint8_t codes[2048];
  uint64_t offset = RowOffset(window, row) + 8 + 2 * begin;
  while (!out.empty()) {
    const size_t n = std::min(out.size(), sizeof codes / 2);
    bytes_->ReadAt(offset, MutableByteView(codes).first(2 * n));
    for (size_t i = 0; i < n; ++i) {
      const auto code = LoadLE<uint16_t>(codes + 2 * i);
      out[i] = scaling.scale * static_cast<float>(code) + scaling.minimum;
    }
    out = out.subspan(n);
    offset += 2 * n;
  }
}

uint64_t LogitsFile::Fingerprint() const {
  Xxh3Stream hash;
  constexpr uint64_t kPiece = uint64_t{1} << 20;
  for (uint64_t at = 0; at < layout_.rows_offset(); at += kPiece) {
    hash.Update(bytes_->ReadVector(at, std::min(kPiece, layout_.rows_offset() - at)));
  }
  for (uint64_t window = 0; window < layout_.n_windows; ++window) {
    hash.Update(bytes_->ReadVector(RowOffset(window, 0), 8));
  }
  return hash.Digest();
}

LogitsWriter::LogitsWriter(std::unique_ptr<Output> output, const LogitsLayout& layout,
                           std::span<const int32_t> tokens)
    : output_(std::move(output)),
      n_bytes_left_(layout.n_windows * layout.rows_per_window() * layout.row_bytes()) {
  constexpr uint64_t kMost = std::numeric_limits<int32_t>::max();
  QUERN_CHECK(layout.context >= kLogitsMinContext && layout.context <= kMost &&
              layout.vocab_size <= kMost && layout.n_windows <= kMost &&
              tokens.size() == layout.n_windows * layout.context);
  uint8_t numbers[12];
  StoreLE(numbers, static_cast<int32_t>(layout.context));
  StoreLE(numbers + 4, static_cast<int32_t>(layout.vocab_size));
  StoreLE(numbers + 8, static_cast<int32_t>(layout.n_windows));
  output_->Write(AsBytes(kLogitsMagic));
  output_->Write(numbers);
  output_->Write({reinterpret_cast<const uint8_t*>(tokens.data()), tokens.size_bytes()});
}

void LogitsWriter::EncodeRow(std::span<const float> logits, MutableByteView out) {
  const auto [least, most] = std::ranges::minmax_element(logits);
  // All relative to the largest, so that large logits lose nothing to it.
  const float max = *most;
  const float low = std::max(*least - max, -kLogitsRange);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit - max});
  const float scale = -low / 65535;
  StoreLE(out.data(), scale);
  StoreLE(out.data() + 4, static_cast<float>(double{low} - std::log(sum)));
  for (size_t i = 0; i < logits.size(); ++i) {
    // Nearest, ties to even. Where the range is so small that the scale is none, all are the minimum.
    const float above = logits[i] - max - low;
    const float steps = above > 0 && scale > 0 ? above / scale : 0;
    StoreLE(out.data() + 8 + 2 * i,
            static_cast<uint16_t>(std::min(std::nearbyint(steps), 65535.0f)));
  }
  if (logits.size() % 2 == 1) StoreLE(out.data() + out.size() - 2, uint16_t{0});
}

void LogitsWriter::Put(ByteView rows) {
  QUERN_CHECK(rows.size() <= n_bytes_left_);
  output_->Write(rows);
  n_bytes_left_ -= rows.size();
}

void LogitsWriter::Finish() {
  QUERN_CHECK(n_bytes_left_ == 0);
  output_->Commit();
}

}  // namespace quern
