// What a measurement found, as data; tools/ prints it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "verify/archs.h"

namespace quern {

// How text is cut into windows and which predictions count.
enum class Protocol : uint8_t {
  // llama.cpp's: windows of 512 by default, without overlap; the vocabulary's begin token replaces
  // the first token of each window; of n tokens, the predictions of tokens n/2 + 1 … n - 1 count.
  kLlamaCpp,
  // The papers': windows of 2,048 by default, without overlap, as they stand in the token sequence
  // (the begin token stands before the whole text, nowhere else); all n - 1 predictions count.
  kPapers,
};

// Returns "llama.cpp" or "papers".
std::string_view NameOf(Protocol protocol);
// Returns "f32" or "bf16".
std::string_view NameOf(Compute compute);

// A mean with its standard error.
struct Estimate {
  double value = 0;
  double standard_error = 0;
};

// How far a model's predictions are from those of a reference.
struct Divergence {
  std::string reference_name;        // the reference's file or folder
  Estimate reference_perplexity;
  Estimate mean_kld;                 // Units: nats per prediction; KL(reference || model).
  Estimate top1_agreement;           // Units: fraction of predictions with the same most likely token.
  Estimate ln_perplexity_ratio;      // Units: nats; model over reference, errors paired.
  std::vector<double> reference_nll; // one per prediction, as Report::nll
  std::vector<double> kld;           // one per prediction
  std::vector<uint8_t> same_top1;    // one per prediction, 0 or 1
};

struct Report {
  std::string model_name;    // the model's file or folder
  Protocol protocol = Protocol::kLlamaCpp;
  Compute compute = Compute::kF32;
  uint64_t context = 0;      // tokens per window
  uint64_t windows = 0;
  uint64_t text_bytes = 0;
  uint64_t text_xxh3 = 0;    // of the text's bytes
  uint64_t text_tokens = 0;  // of the whole text, with special tokens
  uint64_t tokens = 0;       // predictions that count
  Estimate mean_nll;         // Units: nats per prediction.
  Estimate perplexity;       // exp(mean_nll); the error is llama.cpp's: perplexity * mean_nll's
  double seconds = 0;        // wall time of the measurement
  std::vector<double> nll;   // Units: nats; one per prediction, window by window.
  std::optional<Divergence> divergence;
};

}  // namespace quern
