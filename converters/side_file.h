// The small files beside weights: configurations and vocabularies.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace quern {

// Real ones have a few hundred bytes (the configurations) to 17 MB (Llama 3's tokenizer.json).
inline constexpr uint64_t kMaxConfigBytes = uint64_t{4} << 20;
inline constexpr uint64_t kMaxVocabularyBytes = uint64_t{64} << 20;

// Checks that `text` is not that of something which was saved in place of the file.
// Throws: as WrongKind, for Git LFS pointers, HTML pages and archives. `wanted` completes "expected
// …".
void RefuseForeign(std::string_view text, const std::string& file, std::string_view wanted);

// Returns the whole file.
// Throws: as ReadWholeFile and RefuseForeign.
std::string ReadSideFile(const std::string& path, uint64_t max_bytes, std::string_view wanted);

}  // namespace quern
