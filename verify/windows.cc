#include "verify/windows.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "formats/core/error.h"
#include "verify/tokenize.h"

namespace quern {
namespace {

// Returns the tokens of `text`; sets `*begin_token` to the vocabulary's, or -1.
std::vector<int32_t> TokensOf(const TensorStore& model, std::string_view text,
                              int32_t* begin_token) {
  try {
    const TextTokenizer tokenizer(model.manifest().tokenizer);
    if (tokenizer.end_token()) {
      // llama.cpp refuses these too: an end token inside the sequence is nothing to predict from.
      throw UnsupportedError("perplexity.add-eos",
                             "the vocabulary puts an end token behind every text");
    }
    *begin_token = tokenizer.begin_token().value_or(-1);
    return tokenizer.Encode(text, true);
  } catch (Error& error) {
    if (!error.has_file()) error.File(model.name());
    throw;
  }
}

// Returns the places of every window that options.part takes.
std::vector<uint64_t> PlacesOfPart(const PerplexityOptions& options, uint64_t n_windows) {
  std::vector<uint64_t> places;
  for (uint64_t w = options.part - 1; w < n_windows; w += options.parts) places.push_back(w);
  if (places.empty()) {
    throw Error(ErrorCode::kUsage, "perplexity.part", "no window is left for this part")
        .Found(std::to_string(n_windows) + " windows")
        .Expected("at least one for each of " + std::to_string(options.parts) + " parts")
        .Hint("cut the text into fewer parts");
  }
  return places;
}

}  // namespace

uint64_t ContextOf(const PerplexityOptions& options) {
  constexpr uint64_t kLlamaCppContext = 512;
  constexpr uint64_t kPapersContext = 2048;
  // Four tokens give llama.cpp's protocol its first prediction that counts.
  constexpr uint64_t kMinContext = 4;
  if (options.context == 0) {
    return options.protocol == Protocol::kLlamaCpp ? kLlamaCppContext : kPapersContext;
  }
  if (options.context < kMinContext) {
    throw Error(ErrorCode::kUsage, "perplexity.context", "the context is too short to measure")
        .Found(std::to_string(options.context) + " tokens")
        .Expected("at least " + std::to_string(kMinContext));
  }
  return options.context;
}

TextWindows CutText(const TensorStore& model, std::string_view text,
                    const PerplexityOptions& options) {
  TextWindows cut;
  cut.context = ContextOf(options);
  int32_t begin_token = -1;
  const std::vector<int32_t> tokens = TokensOf(model, text, &begin_token);
  cut.text_tokens = tokens.size();

  const bool llama_cpp = options.protocol == Protocol::kLlamaCpp;
  const uint64_t min_windows = llama_cpp ? 2 : 1;
  cut.n_windows = tokens.size() / cut.context;
  if (cut.n_windows < min_windows) {
    throw DataError("text.short", "the text is too short to measure")
        .File(options.text_name)
        .Found(std::to_string(tokens.size()) + " tokens")
        .Expected("at least " + std::to_string(min_windows) + " windows of " +
                  std::to_string(cut.context))
        .Hint("give a longer text or a smaller --context");
  }
  if (options.chunks > 0) cut.n_windows = std::min(cut.n_windows, options.chunks);

  cut.text_windows = cut.n_windows;
  cut.scored_begin = llama_cpp ? cut.context / 2 : 0;
  cut.n_scored = cut.context - 1 - cut.scored_begin;
  cut.inputs.assign(tokens.begin(),
                    tokens.begin() + static_cast<ptrdiff_t>(cut.n_windows * cut.context));
  cut.targets.reserve(cut.n_windows * cut.n_scored);
  for (uint64_t w = 0; w < cut.n_windows; ++w) {
    const auto first = cut.inputs.begin() + static_cast<ptrdiff_t>(w * cut.context);
    cut.targets.insert(cut.targets.end(), first + static_cast<ptrdiff_t>(cut.scored_begin) + 1,
                       first + static_cast<ptrdiff_t>(cut.context));
    cut.first_tokens.push_back(*first);
    // Taken as a target already, where it is one: scored positions lie behind the first token.
    if (llama_cpp && begin_token >= 0) *first = begin_token;
  }
  cut.places.resize(cut.n_windows);
  std::iota(cut.places.begin(), cut.places.end(), uint64_t{0});
  if (options.parts > 1) KeepPlaces(PlacesOfPart(options, cut.n_windows), cut);
  return cut;
}

void CheckSameVocabulary(const TensorStore& model, const TensorStore& base,
                         const TextWindows& base_windows, std::string_view text,
                         const PerplexityOptions& options) {
  const auto differ = [&](std::string_view what, const std::string& found,
                          const std::string& expected) {
    throw DataError("divergence.vocabulary", what)
        .File(model.name())
        .Found(found)
        .Expected(expected + ", as in " + Quoted(base.name()))
        .Hint("models must have the same vocabulary to be compared");
  };
  const uint64_t size = model.manifest().spec->vocab_size;
  const uint64_t base_size = base.manifest().spec->vocab_size;
  if (size != base_size) {
    differ("the vocabularies of two models differ in size", std::to_string(size),
           std::to_string(base_size));
  }
  const TextWindows windows = CutText(model, text, options);
  if (windows.text_tokens != base_windows.text_tokens || windows.inputs != base_windows.inputs ||
      windows.targets != base_windows.targets) {
    differ("two models read the text as different tokens",
           std::to_string(windows.text_tokens) + " tokens",
           std::to_string(base_windows.text_tokens) + " tokens, the same ones");
  }
}

void KeepPlaces(std::span<const uint64_t> places, TextWindows& windows) {
  uint64_t n_kept = 0;
  for (uint64_t w = 0; w < windows.n_windows; ++w) {
    if (!std::ranges::binary_search(places, windows.places[w])) continue;
    const auto move = [&](std::vector<int32_t>& tokens, uint64_t per_window) {
      std::copy_n(tokens.begin() + static_cast<ptrdiff_t>(w * per_window), per_window,
                  tokens.begin() + static_cast<ptrdiff_t>(n_kept * per_window));
    };
    move(windows.inputs, windows.context);
    move(windows.targets, windows.n_scored);
    move(windows.first_tokens, 1);
    windows.places[n_kept++] = windows.places[w];
  }
  windows.n_windows = n_kept;
  windows.inputs.resize(n_kept * windows.context);
  windows.targets.resize(n_kept * windows.n_scored);
  windows.first_tokens.resize(n_kept);
  windows.places.resize(n_kept);
}

}  // namespace quern
