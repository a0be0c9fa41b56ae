// The vocabulary of a model, from the keys of its header.
#pragma once

#include "formats/core/tokenizer.h"
#include "formats/gguf_key_reader.h"

namespace quern {

// Takes the keys that it interprets, and moves their arrays out.
// Throws: Error kData "tokenizer.*", "gguf.key-type".
Tokenizer ReadGgufVocabulary(KeyReader& keys);

}  // namespace quern
