// Models as text and as JSON, for `quern inspect`.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "formats/core/manifest.h"

namespace quern {

// Returns what a manifest says: the model's numbers, its vocabulary, its types, other metadata,
// and every tensor.
std::string DescribeManifest(const Manifest& manifest);

// Returns the same as JSON (schema "quern.model/1").
nlohmann::ordered_json ManifestJson(const Manifest& manifest);

// Returns a line or two about a vocabulary.
std::string DescribeTokenizer(const Tokenizer& tokenizer);
nlohmann::ordered_json TokenizerJson(const Tokenizer& tokenizer);

}  // namespace quern
