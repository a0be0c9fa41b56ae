// Letters of ASCII without regard to case and locale.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

namespace quern {

constexpr char AsciiLower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

inline std::string AsciiLower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = AsciiLower(c);
  return lower;
}

inline bool SameIgnoringCase(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return AsciiLower(c); };
  return std::ranges::equal(a, b, {}, lower, lower);
}

}  // namespace quern
