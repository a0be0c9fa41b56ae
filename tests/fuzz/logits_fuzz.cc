// Files of base logits. Beyond "no crash": what was accepted is as long as its header says by
// arithmetic of our own, tokens are in the vocabulary, log-probabilities are finite and none is above
// 0, but for rounding; rows written of what was read can be read again and say the same.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "formats/logits_file.h"
#include "tests/fuzz/fuzz_support.h"

namespace {

using quern::fuzz::Bytes;
using quern::fuzz::IntoVector;
using quern::fuzz::Require;

void CheckLength(const quern::LogitsLayout& layout, size_t size) {
  __extension__ using Wide = unsigned __int128;
  const Wide rows = Wide{layout.n_windows} * (layout.context - 1 - layout.context / 2);
  const Wide row_bytes = 4 + 4 + 2 * ((Wide{layout.vocab_size} + 1) / 2 * 2);
  Require(20 + 4 * Wide{layout.n_windows} * layout.context + rows * row_bytes == size);
}

std::vector<float> ReadWholeRow(const quern::LogitsFile& file, uint64_t window, uint64_t row) {
  std::vector<float> log_p(file.layout().vocab_size);
  file.ReadLogP(window, row, file.ReadRow(window, row), 0, log_p);
  return log_p;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quern;
  try {
    const LogitsFile file(std::make_unique<MemoryBytes>(ByteView(data, size), "fuzz"));
    const LogitsLayout& layout = file.layout();
    CheckLength(layout, size);
    file.Fingerprint();
    const std::vector<int32_t> tokens = file.Tokens(0, layout.n_windows);
    for (const int32_t token : tokens) {
      Require(token >= 0 && static_cast<uint64_t>(token) < layout.vocab_size);
    }
    Bytes again, row_bytes(layout.row_bytes());
    LogitsWriter writer(std::make_unique<IntoVector>(again), layout, tokens);
    for (uint64_t window = 0; window < layout.n_windows; ++window) {
      for (uint64_t row = 0; row < layout.rows_per_window(); ++row) {
        const std::vector<float> log_p = ReadWholeRow(file, window, row);
        for (const float value : log_p) Require(std::isfinite(value) && value <= 0.011f);
        LogitsWriter::EncodeRow(log_p, row_bytes);
        writer.Put(row_bytes);
      }
    }
    writer.Finish();
    Require(again.size() == size);
    const LogitsFile read(std::make_unique<MemoryBytes>(again, "again"));
    Require(read.Tokens(0, layout.n_windows) == tokens);
    // Log-probabilities that add up to 1 come back; others come back as such.
    Bytes third = again;
    for (uint64_t window = 0; window < layout.n_windows; ++window) {
      for (uint64_t row = 0; row < layout.rows_per_window(); ++row) {
        double sum = 0;
        for (const float value : ReadWholeRow(read, window, row)) sum += std::exp(double{value});
        Require(std::abs(sum - 1) < 1e-3 + static_cast<double>(layout.vocab_size) * 2e-7);
      }
    }
  } catch (const Error& error) {
    Require(fuzz::IsRefusal(error));
  }
  return 0;
}
