// What a measurement found, as data; tools/ prints it. verify/DIVERGENCE.md defines every number.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/core/dtype.h"
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

// A mean, or what follows from means, with its standard error; NaN where that is not known (a
// single window says nothing about the spread of windows).
struct Estimate {
  double value = 0;
  double standard_error = 0;
};

// Bits of Predictions::top1. A model is right where its most likely token is the text's.
enum Top1 : uint8_t { kSameTop1 = 1, kReferenceRight = 2, kModelRight = 4 };

// One value per prediction that counts, window by window, each window with the same number.
struct Predictions {
  std::vector<double> nll;            // of the model. Units: nats.
  std::vector<double> reference_nll;  // empty without a reference, as the next two
  std::vector<double> kld;            // KL(reference || model). Units: nats.
  std::vector<uint8_t> top1;          // Top1
};

// One value per window: the means of what Predictions holds.
struct WindowSeries {
  std::vector<uint64_t> place;  // of the window in the text, rising: its first token / context
  std::vector<double> nll;      // Units: nats per prediction.
  std::vector<double> reference_nll;  // empty without a reference, as all that follow
  std::vector<double> kld;
  std::vector<double> delta_p;         // Units: 1.
  std::vector<double> top1_agreement;  // Units: 1.

  size_t size() const { return place.size(); }
};

struct Percentile {
  double percent = 0;  // in (0, 100)
  Estimate estimate;
};

// Of a quantity over all predictions.
struct Distribution {
  Estimate mean;
  double minimum = 0, maximum = 0;
  std::vector<Percentile> percentiles;  // rising
};

// What a model is compared with.
struct ReferenceInfo {
  std::string name;  // file or folder
  uint64_t fingerprint = 0;
  bool is_logits = false;  // a file of what it predicted (formats/logits_file.h), not the model
};

// How far a model's predictions are from those of a reference. All errors have the window as unit.
struct Divergence {
  ReferenceInfo reference;
  Estimate reference_perplexity;  // the error is llama.cpp's, as Report::perplexity's
  Estimate ln_perplexity_ratio;   // Units: nats; model over reference, errors paired.
  Estimate perplexity_ratio;      // exp of it
  Distribution kld;               // Units: nats per prediction; KL(reference || model).
  Distribution delta_p;     // Units: 1; of the text's token, model's probability - reference's.
  Estimate rms_delta_p;     // Units: 1.
  Estimate top1_agreement;  // Units: fraction of predictions with the same most likely token.
  Estimate flips;           // Units: fraction where just one of the two is right;
  Estimate lost, gained;    // where only the reference is right; only the model.
};

// The model beside an earlier report's, on the windows that both have. Errors are paired by window.
struct BaselineComparison {
  std::string report_name;       // the report's file
  std::string model_name;        // what it measured
  Estimate perplexity;           // of that model; the error has the window as unit
  Estimate ln_perplexity_ratio;  // Units: nats; this model over that one.
};

// What is asked of a model; verify/gates.h has the table.
enum class GateKind : uint8_t { kMaxPerplexity, kMaxPerplexityRatio, kMaxKld, kMinAgreement };

enum class Decision : uint8_t { kPassed, kFailed, kUndecided };
// Returns "passed", "failed" or "not decided".
std::string_view NameOf(Decision decision);

struct Gate {
  GateKind kind = GateKind::kMaxPerplexity;
  double limit = 0;  // as the flag gives it
};

// The answer to one gate.
struct GateResult {
  Gate gate;
  Decision decision = Decision::kUndecided;
  double tolerated = 0;         // where "clearly worse than the limit" begins (1.02 limit, …)
  uint64_t windows = 0;         // after which it was decided, or all there were
  double value = 0;             // the mean then, in the limit's unit
  double lower = 0, upper = 0;  // the interval that decided
  std::string reason;           // a sentence
};

struct Verdict {
  Decision decision = Decision::kUndecided;
  double confidence = 0;
  std::vector<GateResult> gates;
};

// What it does to the reference to take one tensor from the model.
struct TensorEffect {
  std::string name;
  DType reference_type = DType::kF32, model_type = DType::kF32;
  uint64_t model_bytes = 0;      // of the tensor in the model
  Estimate mean_kld;             // Units: nats per prediction.
  Estimate ln_perplexity_ratio;  // Units: nats.
};

struct PerTensorReport {
  uint64_t windows = 0;               // evaluated, whatever gates decided early
  std::vector<TensorEffect> effects;  // by falling KL divergence; empty where no tensor differs
};

// One model over one text.
struct Report {
  std::string model_name;          // the model's file or folder
  uint64_t model_bytes = 0;        // of all tensors as they are stored
  uint64_t model_weights = 0;      // elements of all tensors
  uint64_t model_fingerprint = 0;  // Fingerprint (verify/perplexity.h)
  Protocol protocol = Protocol::kLlamaCpp;
  Compute compute = Compute::kF32;
  uint64_t context = 0;          // tokens per window
  uint64_t windows = 0;          // evaluated
  uint64_t text_windows = 0;     // that the text has, or --chunks leaves
  uint64_t part = 1, parts = 1;  // of those, the windows w with w mod parts = part - 1 were due
  uint64_t text_bytes = 0;
  uint64_t text_xxh3 = 0;    // of the text's bytes
  uint64_t text_tokens = 0;  // of the whole text, with special tokens
  uint64_t tokens = 0;       // predictions that count
  Estimate mean_nll;         // Units: nats per prediction. The error takes predictions as
                             // independent, as llama.cpp's.
  Estimate perplexity;       // exp(mean_nll); error = perplexity * mean_nll's
  double seconds = 0;        // wall time of the measurement of all models of the run
  Predictions predictions;   // empty in a report that was read from a file without them
  WindowSeries series;
  std::optional<Divergence> divergence;
  std::optional<BaselineComparison> baseline;
  std::optional<PerTensorReport> per_tensor;
  std::optional<Verdict> verdict;
};

}  // namespace quern
