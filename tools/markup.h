// Text from files and command lines made safe for documents that others render.
#pragma once

#include <string>
#include <string_view>

namespace quern {

// Returns `text` for element content and quoted attributes of XML and HTML: control bytes and what
// is no valid UTF-8 appear as in Escaped(), characters that XML forbids as "?", the five special
// ones as entities; cut at about `max_bytes`.
std::string XmlEscaped(std::string_view text, size_t max_bytes = 300);

// Returns `text` for a line or table cell of GitHub's Markdown, where it means nothing but itself:
// as Escaped(), and ASCII punctuation behind backslashes.
// Source: GitHub Flavored Markdown, "Backslash escapes" and "Autolinks (extension)".
std::string MarkdownEscaped(std::string_view text, size_t max_bytes = 300);

}  // namespace quern
