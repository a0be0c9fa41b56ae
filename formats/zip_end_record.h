// The records at the end of a zip archive, which say where its directory is.
// Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.14 to 4.3.16.
#pragma once

#include <cstdint>
#include <string_view>

#include "formats/core/error.h"
#include "formats/core/file.h"

namespace quern {

// Sizes of the fixed parts of a local header and a central directory record.
inline constexpr uint64_t kZipLocalBytes = 30, kZipCentralBytes = 46;

// Returns the error for a fault of the archive `bytes`.
Error ZipError(std::string_view id, std::string_view what, const RandomAccessBytes& bytes);

struct ZipDirectoryPlace {
  uint64_t offset = 0;
  uint64_t size_bytes = 0;
  uint64_t n_entries = 0;
};

// Returns where the directory is: at the end of the file, followed by nothing but the end records,
// which must agree. The number of entries is one that the file can hold.
// Throws: Error kData "zip.eocd", "zip.zip64", "zip.directory", "zip.multi-disk",
// "input.trailing-data".
ZipDirectoryPlace FindZipDirectory(const RandomAccessBytes& bytes);

}  // namespace quern
