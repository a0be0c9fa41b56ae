#include "tools/io_args.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

#include "converters/checklist.h"
#include "converters/converters.h"
#include "formats/model_file.h"
#include "tools/terminal.h"

namespace quern {

std::string ResolveInput(const std::string& path) {
  if (!path.empty()) return path;
  if (IsTerminal(STDIN_FILENO)) {
    throw UsageError("usage.no-input", "no input given")
        .Hint("name a checkpoint folder or a GGUF file, or pipe a GGUF stream into standard input");
  }
  return "-";
}

bool ModelGoesToStdout(const std::string& output_path) {
  return output_path.empty() || output_path == "-";
}

std::unique_ptr<Output> OpenModelOutput(const std::string& path, bool force,
                                        const std::vector<std::string>& input_files,
                                        uint64_t expected_bytes) {
  if (ModelGoesToStdout(path)) {
    if (IsTerminal(STDOUT_FILENO)) {
      throw UsageError("usage.binary-to-terminal", "a model is not written to a terminal")
          .Hint("name a file with -o, or redirect standard output");
    }
    return FdOutput(STDOUT_FILENO, "standard output");
  }
  OutputOptions options{.force = force, .inputs = {}, .expected_bytes = expected_bytes};
  for (const std::string& file : input_files) {
    if (const auto id = FileIdOf(file)) options.inputs.push_back(*id);
  }
  return OpenOutput(path, options);
}

OpenedSource OpenSource(const std::string& path, const CheckpointOptions& options) {
  OpenedSource opened;
  if (path == "-") {
    opened.source = ReadModelStream(std::make_unique<FdStream>(STDIN_FILENO, "standard input"));
    return opened;
  }
  opened.store = OpenCheckpoint(path, options);
  opened.source = opened.store->Walk();
  opened.input_files = InputFilesOf(path);
  return opened;
}

void VerifyInput(const std::string& path, Session& session) {
  if (!std::filesystem::is_directory(path)) {
    throw UsageError("usage.verify", "--verify needs a checkpoint folder, not " + Quoted(path));
  }
  RequireChecklist(path, session.terminal, &session.terminal);
}

void WriteJson(const Session& session, const std::string& json) {
  if (session.json == "-") {
    PrintOut(json + "\n");
    return;
  }
  // A report may be replaced: it is made anew by every run.
  const auto output = OpenOutput(session.json, {.force = true, .inputs = {}, .expected_bytes = 0});
  output->Write(AsBytes(json + "\n"));
  output->Commit();
}

}  // namespace quern
