// Files that are not what their name says: named in the error, with what to do.
#pragma once

#include <string_view>

#include "formats/core/bytes.h"

namespace quern {

// How many first bytes of a file ThrowIfForeign wants to see (fewer if the file is shorter).
inline constexpr size_t kForeignHeadBytes = 512;

// Throws if `head`, the first bytes of `file`, are those of a well-known thing that is no model:
// Error kData "input.lfs-pointer" (a Git LFS pointer), "input.html-page" (a web page saved in place of
// the file); kUnsupported "input.unknown-format" (7z, gzip, xz, bzip2, zstd, rar, tar, HDF5, …).
// Returns otherwise. Requires: the caller has tested the formats it reads first.
void ThrowIfForeign(ByteView head, std::string_view file);

}  // namespace quern
