// Recipes: any bytes are rules that hold what they promise, or an error that names a line.
#include <cstdint>
#include <string>

#include "formats/core/error.h"
#include "quant/recipe.h"
#include "tests/fuzz/require.h"

using quern::fuzz::Require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quern;
  if (size > kRecipeMaxBytes) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto rules = ParseRecipe(text, "fuzz");
    Require(rules.size() <= kRecipeMaxRules);
    std::string again;
    for (const TypeOverride& rule : rules) {
      Require(FindCodec(rule.type) != nullptr);
      Require(rule.role.has_value() == rule.pattern.empty());
      Require(rule.pattern.size() <= kRecipeMaxNameBytes);
      if (!rule.role) again += rule.pattern + " = " + std::string(NameOf(rule.type)) + "\n";
    }
    // Patterns survive being written down again.
    for (const TypeOverride& rule : ParseRecipe(again, "again")) Require(!rule.pattern.empty());
  } catch (const Error& error) {
    Require(error.code() == ErrorCode::kData);
    Require(error.has_file());
    Require(std::string(error.what()).find("line ") != std::string::npos);
  }
  return 0;
}
