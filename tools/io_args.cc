#include "tools/io_args.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "converters/checklist.h"
#include "converters/converters.h"
#include "formats/core/buffer_pool.h"
#include "formats/model_file.h"
#include "formats/qpack_format.h"
#include "formats/qpack_writer.h"
#include "tools/terminal.h"
#include "verify/gemm.h"

namespace quern {
namespace {

std::optional<FileStamp> StampOf(const std::string& path) {
  return path == "-" ? RegularFileStampOf(STDIN_FILENO) : FileStampOf(path);
}

// A walk that ends with an error where a file changed meanwhile: no sum need have noticed.
class WatchedSource final : public TensorSource {
 public:
  WatchedSource(std::unique_ptr<TensorSource> source, std::vector<InputFileStamp> stamps)
      : source_(std::move(source)), stamps_(std::move(stamps)) {}
  const Manifest& manifest() const override { return source_->manifest(); }
  const std::string& name() const override { return source_->name(); }
  std::optional<TensorBand> Next(MutableByteView out) override {
    const auto band = source_->Next(out);
    if (!band) CheckUnchanged(stamps_);
    return band;
  }
  void SkipTensors(size_t n, MutableByteView scratch) override { source_->SkipTensors(n, scratch); }
  uint64_t reading_bytes() const override { return source_->reading_bytes(); }

 private:
  std::unique_ptr<TensorSource> source_;
  std::vector<InputFileStamp> stamps_;
};

// Says what a pass reads, for -v.
void Describe(const OpenedSource& opened, Log& log) {
  for (const InputFileStamp& file : opened.stamps) {
    log.Info(
        fmt::format("reads {}, {}", Escaped(file.path, 4096), HumanBytes(file.stamp.size_bytes)));
  }
  const Manifest& manifest = opened.manifest();
  log.Info(fmt::format("{} tensors, {} weights, {}", manifest.tensors.size(), manifest.n_elems(),
                       HumanBytes(manifest.tensor_bytes())));
}

}  // namespace

std::vector<InputFileStamp> StampsOf(const std::vector<std::string>& paths) {
  std::vector<InputFileStamp> stamps;
  for (const std::string& path : paths) {
    if (const auto stamp = StampOf(path)) stamps.push_back({path, *stamp});
  }
  return stamps;
}

void CheckUnchanged(const std::vector<InputFileStamp>& stamps) {
  for (const InputFileStamp& file : stamps) {
    const auto now = StampOf(file.path);
    // A file that was removed stays as it was for whoever had opened it.
    if (!now || *now == file.stamp) continue;
    throw DataError("input.changed", "file changed while it was read")
        .File(file.path == "-" ? "standard input" : Escaped(file.path, 4096))
        .Hint("wait until whatever writes it is done, then repeat the command");
  }
}

std::string ResolveInput(const std::string& path) {
  if (!path.empty()) return path;
  if (IsTerminal(STDIN_FILENO)) {
    throw UsageError("usage.no-input", "no input given")
        .Hint("name a checkpoint folder or a GGUF file, or pipe a GGUF stream into standard input");
  }
  return "-";
}

void RefuseStream(const std::string& path, std::string_view what) {
  if (path != "-") return;
  throw UsageError("usage.stream", fmt::format("{} must be a file, not standard input", what))
      .Hint("write the stream to a file first, for instance with cat > model.gguf");
}

std::string ReadText(const std::string& path, uint64_t max_bytes) {
  struct stat status;
  const bool is_file =
      path != "-" && (stat(path.c_str(), &status) != 0 || !S_ISFIFO(status.st_mode));
  if (is_file) return ReadWholeFile(path, max_bytes);
  const bool is_stdin = path == "-";
  const int fd = is_stdin ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw SystemError("file.open", "open", path, errno);
  const auto close_fd = [fd, is_stdin](const void*) {
    if (!is_stdin) close(fd);
  };
  const std::unique_ptr<const void, decltype(close_fd)> closer(&path, close_fd);
  FdStream stream(fd, is_stdin ? "standard input" : Escaped(path, 4096));
  std::string text;
  constexpr size_t kStepBytes = size_t{1} << 20;
  for (size_t got = kStepBytes; got == kStepBytes;) {
    const size_t begin = text.size();
    text.resize(begin + kStepBytes);
    got = stream.Read({reinterpret_cast<uint8_t*>(text.data()) + begin, kStepBytes});
    text.resize(begin + got);
    if (text.size() <= max_bytes) continue;
    throw DataError("file.too-large", "text is too large")
        .File(stream.name())
        .Expected(fmt::format("at most {} bytes", max_bytes));
  }
  return text;
}

bool ModelGoesToStdout(const std::string& output_path) {
  return output_path.empty() || output_path == "-";
}

void CheckReportHasRoom(const Session& session, const std::string& output_path) {
  if (session.json != "-" || !ModelGoesToStdout(output_path)) return;
  throw UsageError("usage.json-to-model",
                   "standard output carries the model, the report cannot go there too")
      .Hint("use --json=FILE, or -o FILE for the model");
}

Compute ParseCompute(const std::string& name, Session& session) {
  if (name == "f32") return Compute::kF32;
  if (name != "bf16") {
    throw UsageError("usage.flag-value", "--compute takes f32 or bf16, not " + Quoted(name));
  }
  if (!HasFastBF16()) {
    session.terminal.Warn("this CPU has no bf16 products: --compute f32 is faster and exact");
  }
  return Compute::kBF16;
}

OutputOptions ModelOutputOptions(bool force, const std::vector<std::string>& input_files,
                                 uint64_t expected_bytes) {
  OutputOptions options{
      .force = force, .never_terminal = true, .inputs = {}, .expected_bytes = expected_bytes};
  for (const std::string& file : input_files) {
    if (const auto id = FileIdOf(file)) options.inputs.push_back(*id);
  }
  if (const auto id = RegularFileIdOf(STDIN_FILENO)) options.inputs.push_back(*id);
  return options;
}

std::unique_ptr<Output> OpenModelOutput(const std::string& path, const OutputOptions& options) {
  if (ModelGoesToStdout(path)) return FdOutput(STDOUT_FILENO, "standard output", options);
  return OpenOutput(path, options);
}

std::unique_ptr<Output> CountBytes(std::unique_ptr<Output> output, uint64_t& n_bytes,
                                   std::vector<InputFileStamp> stamps) {
  class Counting final : public Output {
   public:
    Counting(std::unique_ptr<Output> inner, uint64_t& count, std::vector<InputFileStamp> stamps)
        : inner_(std::move(inner)), count_(count), stamps_(std::move(stamps)) {}
    const std::string& name() const override { return inner_->name(); }
    void Write(ByteView bytes) override {
      inner_->Write(bytes);
      count_ += bytes.size();
    }
    void Commit() override {
      CheckUnchanged(stamps_);
      inner_->Commit();
    }

   private:
    std::unique_ptr<Output> inner_;
    uint64_t& count_;
    std::vector<InputFileStamp> stamps_;
  };
  return std::make_unique<Counting>(std::move(output), n_bytes, std::move(stamps));
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
    opened.stamps = StampsOf({path});
    opened.source = WithOptions(
        ReadModelStream(std::make_unique<FdStream>(STDIN_FILENO, "standard input")), options);
  } else {
    opened.input_files = InputFilesOf(path);
    opened.stamps = StampsOf(opened.input_files);
    opened.store = OpenCheckpoint(path, options);
    opened.source = opened.store->Walk();
  }
  opened.source = std::make_unique<WatchedSource>(std::move(opened.source), opened.stamps);
  if (options.log != nullptr) Describe(opened, *options.log);
  return opened;
}

void VerifyInput(const std::string& path, Session& session) {
  if (!std::filesystem::is_directory(path)) {
    throw UsageError("usage.verify", "--verify needs a checkpoint folder, not " + Quoted(path));
  }
  RequireChecklist(path, session.terminal, &session.terminal);
}

}  // namespace quern
