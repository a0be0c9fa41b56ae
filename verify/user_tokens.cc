#include "verify/user_tokens.h"

#include <algorithm>

namespace quern {

UserTokens::UserTokens(const Tokenizer& tokenizer) {
  for (size_t id = 0; id < tokenizer.types.size() && id < tokenizer.tokens.size(); ++id) {
    if (tokenizer.types[id] == TokenType::kUserDefined && !tokenizer.tokens[id].empty()) {
      tokens_.push_back({tokenizer.tokens[id], static_cast<int32_t>(id)});
    }
  }
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [](const TextFragment& a, const TextFragment& b) {
                     return a.text.size() > b.text.size();
                   });
}

std::vector<TextFragment> UserTokens::Split(std::string_view text) const {
  std::vector<TextFragment> fragments;
  if (!text.empty()) fragments.push_back({text, -1});
  std::vector<TextFragment> next;
  for (const TextFragment& wanted : tokens_) {
    bool found_any = false;
    next.clear();
    for (const TextFragment& fragment : fragments) {
      if (fragment.token >= 0) {
        next.push_back(fragment);
        continue;
      }
      std::string_view rest = fragment.text;
      for (size_t at; (at = rest.find(wanted.text)) != std::string_view::npos;) {
        found_any = true;
        if (at > 0) next.push_back({rest.substr(0, at), -1});
        next.push_back({rest.substr(at, wanted.text.size()), wanted.token});
        rest.remove_prefix(at + wanted.text.size());
      }
      if (!rest.empty()) next.push_back({rest, -1});
    }
    if (found_any) fragments.swap(next);
  }
  return fragments;
}

}  // namespace quern
