#include "tools/markup.h"

#include "formats/core/error.h"

namespace quern {
namespace {

bool IsAsciiPunctuation(char c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
         (c >= '{' && c <= '~');
}

}  // namespace

std::string XmlEscaped(std::string_view text, size_t max_bytes) {
  const std::string plain = Escaped(text, max_bytes);
  std::string out;
  for (size_t i = 0; i < plain.size(); ++i) {
    // U+FFFE and U+FFFF are valid UTF-8 and no characters of XML.
    const std::string_view rest = std::string_view(plain).substr(i, 3);
    if (rest == "\xEF\xBF\xBE" || rest == "\xEF\xBF\xBF") {
      out += '?';
      i += 2;
      continue;
    }
    switch (plain[i]) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += plain[i];
    }
  }
  return out;
}

std::string MarkdownEscaped(std::string_view text, size_t max_bytes) {
  std::string out;
  char previous = ' ';
  for (const char c : Escaped(text, max_bytes)) {
    // These three begin nothing inside a line; but "www." makes a link.
    const bool harmless = c == '-' || c == '/' || (c == '.' && (previous | 0x20) != 'w');
    if (IsAsciiPunctuation(c) && !harmless) out += '\\';
    out += c;
    previous = c;
  }
  return out;
}

}  // namespace quern
