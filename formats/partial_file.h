// An unfinished output that a later run continues (--resume).
//
// Beside OUT lie OUT.partial, which is the beginning of the file, and OUT.partial.journal, text:
//
//   quern-partial 1 KEY        KEY: hash of inputs and flags, 16 hex digits
//   tensor INDEX HASH          for each tensor that is whole in OUT.partial: XXH3-64 of its bytes
//
// A last line without its newline was cut off by a kill and does not count. Nothing in either file
// is believed: a tensor counts as finished only if its bytes still have the hash, so that it does
// not matter what a crash of the system left of them. The journal is locked while a run works on
// it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "formats/core/file.h"
#include "formats/core/stream.h"

namespace quern {

// Makes the sink that writes a container to an output.
using SinkMaker = std::function<std::unique_ptr<TensorSink>(std::unique_ptr<Output>)>;

// Returns a sink that writes to PATH.partial through the sink of `make_sink`, and renames that to
// PATH at Finish. Its Begin puts what an earlier run finished into that sink again and leaves it in
// the file; n_present() then tells how many tensors that were. Destroyed without Finish, it leaves
// both files for a later run. `key` is the hash of whatever decides about the output's bytes.
// Throws: Error kUsage "usage.resume" if `path` is a device or FIFO; kSystem "output.partial" if
// the files at PATH.partial are no regular files, do not belong together, or were made by another
// command; "output.busy" if another run works on them; and as OpenOutput.
std::unique_ptr<TensorSink> MakeResumableSink(const std::string& path, const OutputOptions& options,
                                              uint64_t key, const SinkMaker& make_sink);

}  // namespace quern
