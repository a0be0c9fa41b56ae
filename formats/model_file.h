// Opens a model in any container of formats/formats.h, from a path or a stream.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/core/file.h"
#include "formats/core/finding.h"
#include "formats/core/log.h"
#include "formats/core/stream.h"
#include "formats/verifying_store.h"

namespace quern {

// Returns the opened, validated model at `path`. What is read of it is compared with the hashes that
// the file keeps, as VerifyingStore does; without `verify` it is not.
// Throws: Error as the container's reader; "input.*" (formats/formats.h) if it is no model file.
std::unique_ptr<TensorStore> OpenModelFile(
    const std::string& path, const std::optional<VerifyOptions>& verify = VerifyOptions{});

// Returns the files that OpenModelFile reads for `path`: itself, or all parts of a split model.
// Throws: as OpenModelFile, as far as it must look to know.
std::vector<std::string> ModelFilesOf(const std::string& path);

// Returns every fault of the file or files of a model that can be told without looking at values:
// padding, hashes, bytes that do not belong there, and what CheckModelTensors finds. Without
// `hash_tensors` it leaves out what takes reading the tensors.
// Throws: as OpenModelFile, where `path` is no file of a model.
std::vector<Finding> CheckModelFile(const std::string& path, bool hash_tensors,
                                    Progress* progress = nullptr);

// Returns the model that comes through `stream` (standard input).
// Throws: as OpenModelFile.
std::unique_ptr<TensorSource> ReadModelStream(std::unique_ptr<ByteStream> stream);

}  // namespace quern
