#include "verify/logits_reference.h"

#include <algorithm>
#include <string>
#include <vector>

#include "formats/core/error.h"

namespace quern {
namespace {

LogitsLayout LayoutOf(uint64_t vocab_size, const TextWindows& windows) {
  return {.context = windows.context, .vocab_size = vocab_size, .n_windows = windows.n_windows};
}

// Returns the tokens of a window as the text has them.
std::vector<int32_t> TokensOf(const TextWindows& windows, uint64_t window) {
  const auto begin = windows.inputs.begin() + static_cast<ptrdiff_t>(window * windows.context);
  std::vector<int32_t> tokens(begin, begin + static_cast<ptrdiff_t>(windows.context));
  tokens[0] = windows.first_tokens[window];
  return tokens;
}

}  // namespace

void AlignLogits(const LogitsFile& logits, uint64_t vocab_size, TextWindows& windows) {
  const auto differ = [&](std::string_view where, const std::string& found,
                          const std::string& expected, std::string_view hint) {
    throw DataError("logits.differs", "the file of logits is of something else")
        .File(Escaped(logits.name(), 4096))
        .Where(where)
        .Found(found)
        .Expected(expected)
        .Hint(hint);
  };
  const LogitsLayout& layout = logits.layout();
  if (layout.context != windows.context) {
    differ("tokens per window", std::to_string(layout.context), std::to_string(windows.context),
           "leave --context out, or give " + std::to_string(layout.context));
  }
  if (layout.vocab_size != vocab_size) {
    differ("size of the vocabulary", std::to_string(layout.vocab_size), std::to_string(vocab_size),
           "models must have the same vocabulary to be compared");
  }
  std::vector<uint64_t> places = windows.places;
  std::erase_if(places, [&](uint64_t place) { return place >= layout.n_windows; });
  if (places.empty()) {
    differ("windows", std::to_string(layout.n_windows),
           "at least " + std::to_string(windows.places.front() + 1), "make the file anew");
  }
  KeepPlaces(places, windows);
  for (uint64_t window = 0; window < windows.n_windows; ++window) {
    const uint64_t place = windows.places[window];
    const std::vector<int32_t> theirs = logits.Tokens(place, 1), ours = TokensOf(windows, window);
    const auto [at, ours_at] = std::ranges::mismatch(theirs, ours);
    if (at == theirs.end()) continue;
    differ("window " + std::to_string(place) + ", token " + std::to_string(at - theirs.begin()),
           std::to_string(*at), std::to_string(*ours_at),
           "give the text of which the file was made, and models with its vocabulary");
  }
}

std::unique_ptr<LogitsWriter> MakeLogitsWriter(std::unique_ptr<Output> output, uint64_t vocab_size,
                                               const TextWindows& windows) {
  std::vector<int32_t> tokens;
  tokens.reserve(windows.inputs.size());
  for (uint64_t window = 0; window < windows.n_windows; ++window) {
    const std::vector<int32_t> some = TokensOf(windows, window);
    tokens.insert(tokens.end(), some.begin(), some.end());
  }
  return std::make_unique<LogitsWriter>(std::move(output), LayoutOf(vocab_size, windows), tokens);
}

uint64_t LogitsFileBytes(uint64_t vocab_size, const TextWindows& windows) {
  return LayoutOf(vocab_size, windows).file_bytes();
}

}  // namespace quern
