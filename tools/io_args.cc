#include "tools/io_args.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "converters/checklist.h"
#include "converters/converters.h"
#include "formats/core/buffer_pool.h"
#include "formats/model_file.h"
#include "formats/qpack_format.h"
#include "formats/qpack_writer.h"
#include "tools/terminal.h"

namespace quern {
namespace {

// A walk that ends with an error where a file changed meanwhile: no sum need have noticed.
class WatchedSource final : public TensorSource {
 public:
  WatchedSource(std::unique_ptr<TensorSource> source, std::vector<InputFileStamp> stamps)
      : source_(std::move(source)), stamps_(std::move(stamps)) {}
  const Manifest& manifest() const override { return source_->manifest(); }
  const std::string& name() const override { return source_->name(); }
  std::optional<TensorBand> Next(MutableByteView out) override {
    const auto band = source_->Next(out);
    if (!band) CheckUnchanged();
    return band;
  }
  void SkipTensors(size_t n, MutableByteView scratch) override { source_->SkipTensors(n, scratch); }
  uint64_t reading_bytes() const override { return source_->reading_bytes(); }

 private:
  void CheckUnchanged() const {
    for (const InputFileStamp& file : stamps_) {
      const auto now = FileStampOf(file.path);
      // A file that was removed stays as it was for whoever had opened it.
      if (!now || *now == file.stamp) continue;
      throw DataError("input.changed", "file changed while it was read")
          .File(Escaped(file.path, 4096))
          .Hint("wait until whatever writes it is done, then repeat the command");
    }
  }

  std::unique_ptr<TensorSource> source_;
  std::vector<InputFileStamp> stamps_;
};

}  // namespace

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

OutputOptions ModelOutputOptions(bool force, const std::vector<std::string>& input_files,
                                 uint64_t expected_bytes) {
  OutputOptions options{.force = force, .inputs = {}, .expected_bytes = expected_bytes};
  for (const std::string& file : input_files) {
    if (const auto id = FileIdOf(file)) options.inputs.push_back(*id);
  }
  if (const auto id = RegularFileIdOf(STDIN_FILENO)) options.inputs.push_back(*id);
  return options;
}

std::unique_ptr<Output> OpenModelOutput(const std::string& path, const OutputOptions& options) {
  if (ModelGoesToStdout(path)) {
    if (IsTerminal(STDOUT_FILENO)) {
      throw UsageError("usage.binary-to-terminal", "a model is not written to a terminal")
          .Hint("name a file with -o, or redirect standard output");
    }
    return FdOutput(STDOUT_FILENO, "standard output", options);
  }
  return OpenOutput(path, options);
}

std::unique_ptr<Output> CountBytes(std::unique_ptr<Output> output, uint64_t& n_bytes) {
  class Counting final : public Output {
   public:
    Counting(std::unique_ptr<Output> inner, uint64_t& count)
        : inner_(std::move(inner)), count_(count) {}
    const std::string& name() const override { return inner_->name(); }
    void Write(ByteView bytes) override {
      inner_->Write(bytes);
      count_ += bytes.size();
    }
    void Commit() override { inner_->Commit(); }

   private:
    std::unique_ptr<Output> inner_;
    uint64_t& count_;
  };
  return std::make_unique<Counting>(std::move(output), n_bytes);
}

int ParsePackLevel(const std::string& text) {
  if (text.empty()) return kQpackMinLevel;
  return static_cast<int>(ParseCount("--level", text, kQpackMinLevel, kQpackMaxLevel));
}

uint64_t PackingShare(int level, unsigned threads, uint64_t memory_bytes) {
  const QpackWriteOptions options{.level = level};
  const uint64_t least = QpackWritingBytes(options, 1);
  if (memory_bytes < least) throw MemoryBudgetError("packing", least, memory_bytes);
  return std::min(memory_bytes, QpackWritingBytes(options, threads));
}

OpenedSource OpenSource(const std::string& path, const CheckpointOptions& options) {
  OpenedSource opened;
  if (path == "-") {
    opened.source = ReadModelStream(std::make_unique<FdStream>(STDIN_FILENO, "standard input"));
    return opened;
  }
  opened.input_files = InputFilesOf(path);
  for (const std::string& file : opened.input_files) {
    if (const auto stamp = FileStampOf(file)) opened.stamps.push_back({file, *stamp});
  }
  opened.store = OpenCheckpoint(path, options);
  opened.source = std::make_unique<WatchedSource>(opened.store->Walk(), opened.stamps);
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
