// The flags that ask for gates: those of `quern perplexity` and `quern merge`.
#pragma once

#include <string>
#include <vector>

#include "tools/command.h"
#include "verify/gates.h"

namespace quern {

struct GateFlags {
  std::vector<std::string> limits;  // one per row of AllGates(), empty where it was not given
  std::string confidence;

  // Adds --max-ppl, --max-ppl-ratio, --max-kld, --min-agreement and --confidence.
  void AddTo(Flags& flags);
  // True if any gate was asked for.
  bool Any() const;
  // Returns what was asked for. `has_ratio`: there is something to form a ratio with;
  // `has_reference`: that is a reference, with KL divergence and agreement.
  // Throws: Error kUsage.
  GateOptions Understand(bool has_ratio, bool has_reference) const;
};

}  // namespace quern
