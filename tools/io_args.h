// Inputs and outputs as the user names them: a path, "-", or nothing.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/core/file.h"
#include "formats/core/stream.h"
#include "tools/command.h"
#include "verify/archs.h"

namespace quern {

// Returns `path`, or "-" where it is empty and standard input is a pipe or file.
// Throws: Error kUsage if standard input is a terminal.
std::string ResolveInput(const std::string& path);

// For commands that read an input more than once. Throws: Error kUsage if `path` is "-".
void RefuseStream(const std::string& path, std::string_view what);

// Returns the whole text at `path`: a file, a pipe such as <(zcat …), or "-".
// Throws: as ReadWholeFile.
std::string ReadText(const std::string& path, uint64_t max_bytes);

// A text of more than this is certainly not meant.
inline constexpr uint64_t kMaxTextBytes = uint64_t{4} << 30;

// Returns what --compute names; warns where that is the slower choice on this CPU.
// Throws: Error kUsage.
Compute ParseCompute(const std::string& name, Session& session);

// Returns the options of an output that must be none of `input_files` nor of what standard input
// reads.
OutputOptions ModelOutputOptions(bool force, const std::vector<std::string>& input_files,
                                 uint64_t expected_bytes);

// Returns the output for `path`; empty or "-" means standard output.
// Throws: Error kUsage "usage.binary-to-terminal" if that is a terminal; as OpenOutput.
std::unique_ptr<Output> OpenModelOutput(const std::string& path, const OutputOptions& options);

// Returns the level of packing in `text`; the default if it is empty.
// Throws: Error kUsage naming --level.
int ParsePackLevel(const std::string& text);

// Returns the memory that packing with so many threads takes, or `memory_bytes` if that is less.
// Throws: Error kMemory "memory.budget" if it is not enough for one thread.
uint64_t PackingShare(int level, unsigned threads, uint64_t memory_bytes);

// True if standard output carries the model, so that reports must not go there.
bool ModelGoesToStdout(const std::string& output_path);
// Throws: Error kUsage "usage.json-to-model" if --json sends one there all the same.
void CheckReportHasRoom(const Session& session, const std::string& output_path);

// What commands that copy models take unless --memory says otherwise. Units: bytes.
inline constexpr uint64_t kDefaultMemoryBytes = uint64_t{512} << 20;

// An input as it was when it was opened.
struct InputFileStamp {
  std::string path;  // "-": standard input
  FileStamp stamp;
};

// Returns the stamps of those `paths` that are files ("-" where standard input is one).
std::vector<InputFileStamp> StampsOf(const std::vector<std::string>& paths);
// Throws: Error kData "input.changed" for one that is no longer as it was.
void CheckUnchanged(const std::vector<InputFileStamp>& stamps);

// Returns `output`, which adds to `n_bytes` what is written to it, and refuses to commit where one
// of `stamps` has changed. Requires: `n_bytes` outlives it.
std::unique_ptr<Output> CountBytes(std::unique_ptr<Output> output, uint64_t& n_bytes,
                                   std::vector<InputFileStamp> stamps = {});

// Where a pass reads from: an opened store, or a stream from standard input.
struct OpenedSource {
  std::unique_ptr<TensorStore> store;  // empty for a stream
  std::unique_ptr<TensorSource> source;
  std::vector<std::string> input_files;
  std::vector<InputFileStamp> stamps;  // of the input files

  const Manifest& manifest() const { return source->manifest(); }
};

struct CheckpointOptions;
// Opens a checkpoint folder, a .pth, a GGUF file, or "-" for a GGUF stream. The source ends with
// Error kData "input.changed" where one of the files changed since.
OpenedSource OpenSource(const std::string& path, const CheckpointOptions& options);

// Compares the files of the checkpoint folder `path` with its checklist.chk (--verify); warnings
// are shown. Throws: Error kUsage "usage.verify" if `path` is no folder; as RequireChecklist.
void VerifyInput(const std::string& path, Session& session);

}  // namespace quern
