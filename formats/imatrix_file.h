// llama.cpp's importance matrices: how large the inputs of each weight matrix were, column by
// column, over a calibration text. Both layouts: the legacy one (imatrix.dat, without a magic) and
// the GGUF one of mid-2025.
//
//   legacy: i32 n_entries, then per entry: i32 name_bytes, name, i32 n_calls, i32 n_values,
//           f32 values[n_values] (mean squares times n_calls); then optionally i32 n_chunks, and
//           optionally i32 dataset_bytes, dataset.
//   GGUF:   general.type = "imatrix"; per weight W the F32 tensors W.in_sum2 (sums of squares,
//           [matrices, columns]) and W.counts (rows seen, one number per matrix).
//
// Source: llama.cpp, tools/imatrix and common/imatrix-loader (the file layouts).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/core/file.h"
#include "formats/core/string_list.h"

namespace quern {

inline constexpr uint64_t kImatrixMaxEntries = 262144;
inline constexpr uint64_t kImatrixMaxNameBytes = 512;

struct ImatrixEntry {
  std::string name;           // of the weight, e.g. "blk.3.attn_q.weight"; unique in the file
  std::vector<float> values;  // mean squares per column, matrix by matrix; finite, not negative
  uint64_t count = 0;         // legacy: calls; GGUF: rows seen (by the matrix that saw most)
  // Rows seen by each of the weight's matrices, which divide `values`. Legacy: one, the calls.
  std::vector<float> matrix_counts;
  bool all_zero = false;  // Every value is 0: says nothing about the columns.
};

struct Imatrix {
  bool is_gguf = false;
  std::vector<ImatrixEntry> entries;  // in file order
  StringList datasets;                // names of the calibration texts
  std::optional<uint32_t> n_chunks;
  std::optional<uint32_t> chunk_size;  // Units: tokens. GGUF only.
};

// Returns the importance matrix in `bytes`. A matrix of an expert that saw no rows (GGUF) gets ones
// throughout, as in llama.cpp.
// Throws: Error kData "imatrix.count" (number of entries or calls; sums without counts),
// "imatrix.name" (length, NUL, repeated), "imatrix.values" (how many, their type), naming the
// entry; "imatrix.non-finite" for a NaN, an infinity or a negative value, naming entry and column;
// "imatrix.trailer" for what follows the entries; "imatrix.metadata"; "gguf.*" as ReadGgufHeader;
// kUnsupported "input.kind" for a GGUF file of another type.
// Cost: memory follows the bytes of the file.
Imatrix ReadImatrix(const RandomAccessBytes& bytes);
// The same from a file. Throws: as InputFile; as WrongKind where it is clearly something else.
Imatrix ReadImatrix(const std::string& path);

// Returns true if the file is an importance matrix by its first bytes, its extension, or, for
// GGUF, its general.type.
// Throws: as InputFile and ReadGgufHeader.
bool IsImatrix(const std::string& path);

}  // namespace quern
