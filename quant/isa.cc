#include "quant/isa.h"

#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <string>

#include "formats/core/ascii.h"
#include "formats/core/error.h"

namespace quern {
namespace {

struct Target {
  std::string_view name;
  int64_t bits;  // of Highway's target mask; 0 for the fallback, which is always there
};

// Best first.
#if HWY_ARCH_X86
constexpr Target kTargets[] = {{"avx3", HWY_AVX3 | HWY_AVX3_DL},
                               {"avx2", HWY_AVX2},
                               {"sse4", HWY_SSE4},
                               {"ssse3", HWY_SSSE3},
                               {"scalar", 0}};
#elif HWY_ARCH_ARM
constexpr Target kTargets[] = {{"sve2", HWY_SVE2 | HWY_SVE2_128},
                               {"sve", HWY_SVE | HWY_SVE_256},
                               {"neon", HWY_NEON},
                               {"scalar", 0}};
#else
constexpr Target kTargets[] = {{"scalar", 0}};
#endif
constexpr size_t kTargetCount = std::size(kTargets);

// Returns the targets that are compiled in and that the CPU has.
int64_t DetectedBits() {
  static const int64_t bits = [] {
    hwy::DisableTargets(0);
    return hwy::SupportedTargets();
  }();
  return bits & HWY_TARGETS;
}

// The index in kTargets of the cap that is set.
size_t g_cap = 0;

}  // namespace

std::span<const std::string_view> AllIsas() {
  static const std::array<std::string_view, kTargetCount> names = [] {
    std::array<std::string_view, kTargetCount> out;
    std::ranges::transform(kTargets, out.begin(), &Target::name);
    return out;
  }();
  return names;
}

std::vector<std::string_view> SupportedIsas() {
  std::vector<std::string_view> names;
  for (const Target& target : kTargets) {
    if (target.bits == 0 || (DetectedBits() & target.bits) != 0) names.push_back(target.name);
  }
  return names;
}

void CapIsa(std::string_view name) {
  const std::string lower = AsciiLower(name);
  const auto* found =
      lower == "best" ? kTargets : std::ranges::find(kTargets, lower, &Target::name);
  if (found == std::end(kTargets)) {
    std::string expected = "best";
    for (const Target& target : kTargets) expected += ", " + std::string(target.name);
    throw Error(ErrorCode::kUsage, "usage.isa", "no such instruction set")
        .Found(Quoted(name))
        .Expected("one of " + expected);
  }
  (void)DetectedBits();  // Before anything is disabled.
  int64_t disabled = 0;
  for (const Target* better = kTargets; better != found; ++better) disabled |= better->bits;
  g_cap = static_cast<size_t>(found - kTargets);
  hwy::DisableTargets(disabled);
}

std::string_view CurrentIsa() {
  for (size_t i = g_cap; i < kTargetCount; ++i) {
    if (kTargets[i].bits == 0 || (DetectedBits() & kTargets[i].bits) != 0) return kTargets[i].name;
  }
  return kTargets[kTargetCount - 1].name;
}

}  // namespace quern
