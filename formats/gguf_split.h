// Models split over several GGUF files, NAME-00001-of-00003.gguf and so on. Each part is a GGUF
// file of its own, or one packed (.qpack, all of them then); the first one has the metadata. Source: formats/GGUF.md, "Split models".
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/core/stream.h"
#include "formats/gguf_metadata.h"

namespace quern {

// Returns the paths of all parts of the split model that `path` is a part of, in order.
// Throws: Error kUnsupported "gguf.split-name" if `path` is not named as the part that it is.
std::vector<std::string> SplitPartPaths(const std::string& path, const GgufSplit& split);

// Returns the whole model that the file at `path` is a part of.
// Throws: as SplitPartPaths, as WrongKind and GgufFile for each part; Error kData
// "gguf.part-missing" that names all parts that are not there, "gguf.split" where parts disagree or tensors are missing, "gguf.duplicate-tensor" where two
// parts have the same tensor.
std::unique_ptr<TensorStore> OpenSplitGguf(const std::string& path, const GgufSplit& split);

}  // namespace quern
