#include "tools/gate_flags.h"

#include <fmt/format.h>

#include <algorithm>

namespace quern {

void GateFlags::AddTo(Flags& flags) {
  limits.resize(AllGates().size());
  const auto add = [&](GateKind kind, const char* description) {
    const auto row = static_cast<size_t>(kind);
    flags.Value("--" + std::string(AllGates()[row].name), limits[row], "X", description);
  };
  add(GateKind::kMaxPerplexity,
      "Exit code 1 once the perplexity is surely above X, 0 once it is surely below 1.02 X");
  add(GateKind::kMaxPerplexityRatio, "The same for its ratio to the reference's or baseline's");
  add(GateKind::kMaxKld, "The same for the mean KL divergence in nats, with X and 1.1 X");
  add(GateKind::kMinAgreement,
      "The same for top-1 agreement: below X, above X - 0.005; for instance 0.95");
  flags.Value("--confidence", confidence, "P",
              "How sure that is (default: 0.99); exit code 6 if it cannot be on this text");
}

bool GateFlags::Any() const {
  return std::ranges::any_of(limits, [](const std::string& limit) { return !limit.empty(); });
}

GateOptions GateFlags::Understand(bool has_ratio, bool has_reference) const {
  GateOptions options;
  for (const GateInfo& info : AllGates()) {
    const std::string& limit = limits[static_cast<size_t>(info.kind)];
    if (limit.empty()) continue;
    const std::string flag = "--" + std::string(info.name);
    options.gates.push_back({info.kind, ParseNumber(flag, limit, 0, info.maximum)});
    const bool ratio = info.kind == GateKind::kMaxPerplexityRatio;
    if (info.paired && !(ratio ? has_ratio : has_reference)) {
      throw UsageError("usage.gate", flag + " compares with another model")
          .Hint(ratio ? "give --reference MODEL or --baseline REPORT" : "give --reference MODEL");
    }
  }
  if (!confidence.empty()) {
    options.confidence = ParseNumber("--confidence", confidence, 0.5, 0.999999);
  }
  if (!confidence.empty() && options.gates.empty()) {
    throw UsageError("usage.gate", "--confidence is that of a gate, and there is none")
        .Hint("for instance --max-ppl-ratio 1.01");
  }
  return options;
}

}  // namespace quern
