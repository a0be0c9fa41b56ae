// Recipes: which types which tensors get, written down in a text file.
//
//   # From a number sign to the end of the line: a remark.
//   attn_v      = q6_k     a role, as for --role
//   blk.0.ffn_* = q8_0     a pattern of tensor names, as for --tensor
//
// One rule a line, blank lines do not count. A name of letters, digits and '_' alone is a role;
// with '.', '*' or '?' it is a pattern. Of several rules that match a tensor the first wins; what
// none matches gets what the preset says.
#pragma once

#include <string_view>
#include <vector>

#include "quant/plan.h"

namespace quern {

inline constexpr uint64_t kRecipeMaxBytes = uint64_t{1} << 20;
inline constexpr size_t kRecipeMaxRules = 1000;
inline constexpr size_t kRecipeMaxNameBytes = 256;

// Returns the rules of the recipe `text`, in its order; `file` is for messages.
// Throws: Error kData naming file and line: "recipe.text" (no UTF-8, control bytes), "recipe.rule"
// (no NAME = TYPE, too long, too many), "recipe.role" or "recipe.type" (no such),
// "recipe.duplicate".
std::vector<TypeOverride> ParseRecipe(std::string_view text, std::string_view file);

}  // namespace quern
