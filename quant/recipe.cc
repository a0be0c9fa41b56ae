#include "quant/recipe.h"

#include <algorithm>
#include <map>
#include <string>

#include "formats/core/error.h"

namespace quern {
namespace {

constexpr std::string_view kBlanks = " \t\r";

std::string_view Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

// A number sign begins a remark where it begins the line or follows a blank, not inside a name.
std::string_view WithoutRemark(std::string_view line) {
  for (size_t i = line.find('#'); i != std::string_view::npos; i = line.find('#', i + 1)) {
    if (i == 0 || kBlanks.find(line[i - 1]) != std::string_view::npos) return line.substr(0, i);
  }
  return line;
}

bool IsRoleWord(std::string_view name) {
  return std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
}

class RecipeParser {
 public:
  explicit RecipeParser(std::string_view file) : file_(Escaped(file, 4096)) {}

  std::vector<TypeOverride> Parse(std::string_view text) {
    while (!text.empty()) {
      ++line_;
      const size_t end = std::min(text.find('\n'), text.size());
      ParseLine(text.substr(0, end));
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    return std::move(rules_);
  }

 private:
  Error At(std::string_view id, std::string_view what) const {
    return DataError(id, what)
        .File(file_)
        .Where("line " + std::to_string(line_))
        .Hint("a recipe is text: a line NAME = TYPE for each role or pattern, # for remarks");
  }

  void ParseLine(std::string_view line) {
    const bool is_clean = std::ranges::all_of(line, [](char c) {
      return (static_cast<unsigned char>(c) >= 0x20 && c != 0x7F) ||
             kBlanks.find(c) != std::string_view::npos;
    });
    if (!is_clean || !IsUtf8(line)) throw At("recipe.text", "no text").Found(Quoted(line));
    line = Trimmed(WithoutRemark(line));
    if (line.empty()) return;
    const size_t equals = line.rfind('=');
    const std::string_view name = Trimmed(line.substr(0, std::min(equals, line.size())));
    if (equals == std::string_view::npos || name.empty() || name.ends_with('=')) {
      throw At("recipe.rule", "no rule").Found(Quoted(line)).Expected("NAME = TYPE");
    }
    if (name.size() > kRecipeMaxNameBytes || rules_.size() == kRecipeMaxRules) {
      throw At("recipe.rule", "the recipe is too large")
          .Expected("at most " + std::to_string(kRecipeMaxRules) + " rules, names of at most " +
                    std::to_string(kRecipeMaxNameBytes) + " bytes");
    }
    AddRule(name, Trimmed(line.substr(equals + 1)));
  }

  void AddRule(std::string_view name, std::string_view type_name) {
    const auto [first, is_new] = lines_.emplace(name, line_);
    if (!is_new) {
      throw At("recipe.duplicate", "a second rule for the same name")
          .Found(Quoted(name))
          .Expected("one, as on line " + std::to_string(first->second));
    }
    TypeOverride rule;
    if (IsRoleWord(name)) {
      rule.role = FindRole(name);
      if (!rule.role) {
        throw At("recipe.role", "no such role")
            .Found(Quoted(name))
            .Expected("one of " + RoleNames() + ", or a pattern with '.', '*' or '?'");
      }
    } else {
      rule.pattern = name;
    }
    const auto type = DTypeFromName(type_name);
    if (!type || FindCodec(*type) == nullptr) {
      throw At("recipe.type", "no such type")
          .Found(Quoted(type_name))
          .Expected("one of " + CodecNames());
    }
    rule.type = *type;
    rule.origin = "recipe line " + std::to_string(line_);
    rules_.push_back(std::move(rule));
  }

  std::string file_;
  uint64_t line_ = 0;
  std::vector<TypeOverride> rules_;
  std::map<std::string, uint64_t, std::less<>> lines_;  // of each name
};

}  // namespace

std::vector<TypeOverride> ParseRecipe(std::string_view text, std::string_view file) {
  // Some editors begin a file with a byte order mark.
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  return RecipeParser(file).Parse(text);
}

}  // namespace quern
