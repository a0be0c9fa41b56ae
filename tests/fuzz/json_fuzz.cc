// JSON with limits. Beyond "no crash": what was parsed and is written again parses as the same, every
// text and key is valid UTF-8, and nothing of the input was left out.
#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <set>
#include <string>

#include "formats/core/error.h"
#include "formats/json_limits.h"
#include "tests/fuzz/require.h"

namespace {

using quern::JsonValue;
using Kind = JsonValue::Kind;

using quern::fuzz::Require;

std::string Text(std::string_view text) {
  Require(quern::IsUtf8(text));
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || c == '"' || c == '\\')
      out += fmt::format("\\u{:04x}", byte);
    else
      out += c;
  }
  return out + "\"";
}

// Returns the value as JSON. The depth of a parsed document is bounded.
std::string Written(const JsonValue& value) {
  switch (value.kind()) {
    case Kind::kString: return Text(value.String());
    case Kind::kDouble: {
      Require(std::isfinite(value.Number()));
      const std::string number = fmt::format("{}", value.Number());
      return number.find_first_of(".e") == std::string::npos ? number + ".0" : number;
    }
    case Kind::kArray:
    case Kind::kObject: {
      const bool is_object = value.is_object();
      std::string out;
      std::set<std::string, std::less<>> keys;
      size_t n = 0;
      for (const auto& [key, item] : value.items()) {
        out += n++ == 0 ? "" : ",";
        if (is_object) {
          Require(keys.emplace(key).second);
          out += Text(key) + ":";
        }
        out += Written(item);
      }
      Require(n == value.size());
      return is_object ? "{" + out + "}" : "[" + out + "]";
    }
    default: return value.ToString();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const JsonValue json = quern::ParseJson(text, "fuzz.json");
    // No JSON text holds a NUL byte: whoever takes one for the end accepts what he has not read.
    Require(text.find('\0') == text.npos);
    const std::string written = Written(json);
    Require(Written(quern::ParseJson(written, "again")) == written);
    if (!json.is_object()) return 0;
    for (const auto& [key, value] : json.items()) {
      const auto found = json.Find(key);
      Require(found.has_value() && Written(*found) == Written(value));
      quern::OptionalUint(json, key, 1000, "fuzz.json");
    }
  } catch (const quern::Error& error) {
    Require(error.code() == quern::ErrorCode::kData ||
            error.code() == quern::ErrorCode::kUnsupported);
    Require(error.has_file());
  }
  return 0;
}
