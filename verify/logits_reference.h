// A file of what a model predicted (formats/logits_file.h) as the reference of others, and its making.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "formats/logits_file.h"
#include "verify/windows.h"

namespace quern {

// Leaves of `windows` those that the file has too.
// Throws: Error kData "logits.differs" unless context and size of the vocabulary are the same, all
// tokens too, and there are windows that both have.
void AlignLogits(const LogitsFile& logits, uint64_t vocab_size, TextWindows& windows);

// Returns the writer of a file of `windows`, which are all of their text's.
std::unique_ptr<LogitsWriter> MakeLogitsWriter(std::unique_ptr<Output> output, uint64_t vocab_size,
                                               const TextWindows& windows);
// Returns its length. Units: bytes.
uint64_t LogitsFileBytes(uint64_t vocab_size, const TextWindows& windows);

}  // namespace quern
