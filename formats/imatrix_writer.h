// Writes importance matrices as llama.cpp's quantizer reads them, in either layout of
// formats/imatrix_file.h.
#pragma once

#include <memory>
#include <vector>

#include "formats/core/file.h"
#include "formats/imatrix_file.h"

namespace quern {

// The number of tokens per chunk where nothing says it: llama.cpp's.
inline constexpr uint32_t kImatrixChunkSize = 512;

// Writes and commits the GGUF layout; entries are sorted by name. Entries of a legacy matrix are
// taken to have seen chunk_size rows (512 where that is absent) with each call.
// Throws: Error kData "imatrix.name" where a name is too long for GGUF, naming `output`; as Output.
void WriteImatrixGguf(const Imatrix& imatrix, std::unique_ptr<Output> output);

// Writes and commits the legacy layout, entries in their order. The calls of an entry of the GGUF
// layout are its chunks, rounded up: the most rows that a matrix saw over chunk_size.
void WriteImatrixLegacy(const Imatrix& imatrix, std::unique_ptr<Output> output);

// Returns what all of `matrices` together would have collected: for every entry of any, the mean
// of their values weighted by rows (calls, where all are legacy). The result is legacy if all
// are; its chunk size is that of the first that has one. An entry that saw no rows counts for
// nothing unless all did not.
// Throws: Error kData "imatrix.values" where two entries of the same name differ in size, naming
// the file, which is names[i].
Imatrix MergeImatrices(const std::vector<Imatrix>& matrices, const std::vector<std::string>& names);

}  // namespace quern
