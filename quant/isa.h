// Which instruction set the kernels use: the best of this CPU, or one capped by name (--isa).
#pragma once

#include <span>
#include <string_view>
#include <vector>

namespace quern {

// Returns the names of all instruction sets that kernels were compiled for, best first
// ("avx3", "avx2", "sse4", "ssse3", "scalar" on x86-64; "neon", "scalar" on aarch64).
std::span<const std::string_view> AllIsas();
// Returns those of AllIsas() that this CPU has, best first; never empty.
std::vector<std::string_view> SupportedIsas();
// Lets kernels use nothing better than `name` (whatever its case), or the best again for "best". Call it before work
// begins, from one thread. Output bytes do not depend on it.
// Throws: Error kUsage if there is no such name.
void CapIsa(std::string_view name);
// Returns the name of the instruction set in use.
std::string_view CurrentIsa();

}  // namespace quern
