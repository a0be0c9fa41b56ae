#include "formats/partial_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <optional>
#include <vector>

#include "formats/core/bytes.h"
#include "formats/core/error.h"
#include "formats/core/hash.h"

namespace quern {
namespace {

constexpr std::string_view kFirstWords = "quern-partial 1 ";
// More than a journal of as many tensors as GGUF files have.
constexpr uint64_t kMaxJournalBytes = uint64_t{16} << 20;
constexpr uint64_t kReplayBytes = uint64_t{4} << 20;

Error PartialError(const std::string& path, std::string_view what) {
  return Error(ErrorCode::kSystem, "output.partial", what)
      .File(Escaped(path, 4096))
      .Hint("repeat the command that began it with the same inputs, or remove " +
            Escaped(path, 4096) + "*");
}

// An open descriptor of a regular file.
class File {
 public:
  // Opens or makes the file. Throws: Error kSystem.
  explicit File(const std::string& path) : path_(path) {
    fd_ = open(path.c_str(), O_RDWR | O_CLOEXEC | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (fd_ < 0) throw SystemError("output.open", "open for writing", path, errno);
    if (!RegularFileIdOf(fd_)) {
      close(fd_);
      throw PartialError(path, "not a regular file");
    }
  }
  ~File() { close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int fd() const { return fd_; }
  const std::string& path() const { return path_; }
  uint64_t size_bytes() const {
    struct stat status;
    if (fstat(fd_, &status) != 0) throw SystemError("output.open", "look at", path_, errno);
    return static_cast<uint64_t>(status.st_size);
  }
  // Returns how many bytes there were from `offset`, at most out.size().
  size_t ReadAt(uint64_t offset, MutableByteView out) const {
    size_t done = 0;
    while (done < out.size()) {
      const ssize_t got =
          pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw SystemError("file.read", "read", path_, errno).Offset(offset + done);
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    return done;
  }
  // Cuts the file at `size_bytes` and lets the next write continue there.
  void ContinueAt(uint64_t size_bytes) const {
    if (ftruncate(fd_, static_cast<off_t>(size_bytes)) != 0 ||
        lseek(fd_, static_cast<off_t>(size_bytes), SEEK_SET) < 0) {
      throw SystemError("output.write", "shorten", path_, errno);
    }
  }

 private:
  std::string path_;
  int fd_ = -1;
};

struct FinishedTensor {
  size_t index = 0;
  uint64_t hash = 0;
  uint64_t line_end = 0;  // in the journal
};

// OUT.partial.journal, locked.
class Journal {
 public:
  // Throws: Error kSystem "output.busy", or "output.partial" if its key is not `key`.
  Journal(const std::string& path, const std::string& partial_path, uint64_t key)
      : file_(path), writer_(file_.fd(), path) {
    // A run that ended just now has removed the name.
    struct stat status;
    const bool locked = flock(file_.fd(), LOCK_EX | LOCK_NB) == 0;
    if (!locked && errno != EWOULDBLOCK) throw SystemError("output.open", "lock", path, errno);
    if (!locked || fstat(file_.fd(), &status) != 0 || status.st_nlink == 0) {
      throw Error(ErrorCode::kSystem, "output.busy", "another run works on this output")
          .File(Escaped(partial_path, 4096))
          .Hint("let it finish, or stop it first");
    }
    const std::string first_line = fmt::format("{}{}\n", kFirstWords, HexOf(key));
    std::string text(std::min(file_.size_bytes(), kMaxJournalBytes), '\0');
    text.resize(file_.ReadAt(0, {reinterpret_cast<uint8_t*>(text.data()), text.size()}));
    if (text.find('\n') == std::string::npos && first_line.starts_with(text)) {
      // New, or cut off by a kill before anything was finished.
      file_.ContinueAt(0);
      writer_.Write(AsBytes(first_line));
      return;
    }
    if (!text.starts_with(first_line)) {
      const std::string found = text.substr(0, std::min(text.find('\n'), first_line.size()));
      throw PartialError(partial_path, "unfinished output was made from other inputs or flags")
          .Where("journal " + Quoted(path, 4096))
          .Found(Quoted(found))
          .Expected(Quoted(first_line.substr(0, first_line.size() - 1)));
    }
    Parse(text, first_line.size());
  }

  const std::string& path() const { return file_.path(); }
  const std::vector<FinishedTensor>& finished() const { return finished_; }

  // Forgets all but the first `n` finished tensors.
  void Keep(size_t n) {
    finished_.resize(n);
    file_.ContinueAt(n == 0 ? kFirstWords.size() + 17 : finished_.back().line_end);
  }
  void Append(size_t tensor, uint64_t hash) {
    writer_.Write(AsBytes(fmt::format("tensor {} {}\n", tensor, HexOf(hash))));
  }

 private:
  // Reads lines up to the first that is none.
  void Parse(std::string_view text, size_t at) {
    for (size_t end; (end = text.find('\n', at)) != std::string_view::npos; at = end + 1) {
      FinishedTensor tensor{.line_end = end + 1};
      const std::string_view line = text.substr(at, end - at);
      const size_t space = line.rfind(' ');
      constexpr std::string_view kWord = "tensor ";
      if (!line.starts_with(kWord) || space == kWord.size() - 1) return;
      const auto parse = [](std::string_view digits, auto& value, int base) {
        const auto [last, failed] =
            std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
        return failed == std::errc() && last == digits.data() + digits.size();
      };
      if (!parse(line.substr(kWord.size(), space - kWord.size()), tensor.index, 10) ||
          !parse(line.substr(space + 1), tensor.hash, 16)) {
        return;
      }
      finished_.push_back(tensor);
    }
  }

  File file_;
  FileWriter writer_;
  std::vector<FinishedTensor> finished_;
};

// OUT.partial. While it is replayed, only what differs from the file is written.
class PartialFile final : public Output {
 public:
  PartialFile(const std::string& shown_path, OutputTarget target, const OutputOptions& options,
              uint64_t key)
      : shown_path_(shown_path),
        target_(std::move(target)),
        force_(options.force),
        path_(target_.path + ".partial"),
        journal_(path_ + ".journal", shown_path + ".partial", key),
        file_(path_),
        writer_(file_.fd(), shown_path + ".partial") {
    writer_.StartEarly();
    if (std::ranges::find(options.inputs, *RegularFileIdOf(file_.fd())) != options.inputs.end()) {
      throw PartialError(shown_path + ".partial", "file is one of the inputs");
    }
  }

  const std::string& name() const override { return shown_path_; }

  void Write(ByteView bytes) override {
    if (is_replaying_ && HasAlready(bytes)) {
      position_ += bytes.size();
      return;
    }
    if (is_replaying_) file_.ContinueAt(position_);
    writer_.Write(bytes);
    position_ += bytes.size();
  }

  // Ends the replay: what follows in the file is cut off, and written from now on.
  void EndReplay() {
    file_.ContinueAt(position_);
    is_replaying_ = false;
  }

  void Commit() override {
    writer_.Sync();
    // Another program may have made the target meanwhile: only --force may replace it.
    if (!MoveIntoPlace(path_, target_.path, force_)) {
      throw SystemError("output.commit", "name the finished file", shown_path_, errno);
    }
    unlink(journal_.path().c_str());
    SyncDirectory(target_.directory());
  }

  Journal& journal() { return journal_; }
  const File& file() const { return file_; }
  uint64_t position() const { return position_; }

 private:
  bool HasAlready(ByteView bytes) const {
    std::vector<uint8_t> there(bytes.size());
    return file_.ReadAt(position_, there) == bytes.size() && std::ranges::equal(there, bytes);
  }

  std::string shown_path_;
  OutputTarget target_;
  bool force_;
  std::string path_;
  Journal journal_;
  File file_;
  FileWriter writer_;
  uint64_t position_ = 0;
  bool is_replaying_ = true;
};

class ResumableSink final : public TensorSink {
 public:
  ResumableSink(std::unique_ptr<PartialFile> file, const SinkMaker& make_sink)
      : file_(*file), sink_(make_sink(std::move(file))) {}

  void Begin(const Manifest& manifest) override {
    tensors_ = manifest.tensors;
    sink_->Begin(manifest);
    Journal& journal = file_.journal();
    size_t n_kept = 0;
    for (const FinishedTensor& finished : journal.finished()) {
      if (finished.index != NextWithBytes(n_present_) || !IsStill(finished)) break;
      Replay(finished.index);
      n_present_ = finished.index + 1;
      ++n_kept;
    }
    file_.EndReplay();
    journal.Keep(n_kept);
  }
  size_t n_present() const override { return n_present_; }

  void Put(const TensorBand& band) override {
    sink_->Put(band);
    hash_.Update(band.bytes);
    if (band.row_begin + band.row_count != tensors_[band.tensor].rows()) return;
    file_.journal().Append(band.tensor, hash_.Digest());
    hash_ = Xxh3Stream();
  }

  void Finish() override { sink_->Finish(); }

 private:
  // Returns the first tensor from `index` on that has bytes, or the number of tensors.
  size_t NextWithBytes(size_t index) const {
    while (index < tensors_.size() && tensors_[index].size_bytes() == 0) ++index;
    return index;
  }

  // Calls `use` with the rows of a tensor as they lie behind the file's position, band by band.
  // Returns false if the file ends before them.
  bool ForEachBand(size_t tensor, const std::function<void(const TensorBand&)>& use) const {
    const TensorInfo& info = tensors_[tensor];
    const uint64_t begin = file_.position(), row_bytes = info.row_bytes();
    const uint64_t band_rows = std::clamp<uint64_t>(kReplayBytes / row_bytes, 1, info.rows());
    std::vector<uint8_t> buffer(band_rows * row_bytes);
    for (uint64_t row = 0; row < info.rows();) {
      const uint64_t count = std::min(band_rows, info.rows() - row);
      const MutableByteView bytes = MutableByteView(buffer).first(count * row_bytes);
      if (file_.file().ReadAt(begin + row * row_bytes, bytes) != bytes.size()) return false;
      use({tensor, row, count, bytes});
      row += count;
    }
    return true;
  }

  bool IsStill(const FinishedTensor& finished) const {
    if (finished.index >= tensors_.size()) return false;
    Xxh3Stream hash;
    return ForEachBand(finished.index, [&](const TensorBand& band) { hash.Update(band.bytes); }) &&
           hash.Digest() == finished.hash;
  }

  void Replay(size_t tensor) {
    if (ForEachBand(tensor, [&](const TensorBand& band) { sink_->Put(band); })) return;
    throw PartialError(file_.file().path(), "another program shortened the file");
  }

  PartialFile& file_;  // owned by sink_
  std::unique_ptr<TensorSink> sink_;
  std::vector<TensorInfo> tensors_;
  size_t n_present_ = 0;
  Xxh3Stream hash_;  // of the tensor that is being put
};

}  // namespace

std::unique_ptr<TensorSink> MakeResumableSink(const std::string& path, const OutputOptions& options,
                                              uint64_t key, const SinkMaker& make_sink) {
  OutputTarget target = FindOutputTarget(path, options);
  if (!target.is_file) {
    throw Error(ErrorCode::kUsage, "usage.resume", "only a file can be resumed")
        .File(Escaped(path, 4096))
        .Hint("leave out --resume, or give -o a file name");
  }
  // What is wrong with the names is found before anything is made.
  const std::string partial = target.path + ".partial";
  struct stat status;
  const bool exists = lstat(partial.c_str(), &status) == 0;
  if (exists && !S_ISREG(status.st_mode)) {
    throw PartialError(path + ".partial", "not a regular file");
  }
  if (exists && !FileIdOf(partial + ".journal")) {
    throw PartialError(path + ".partial", "file has no journal beside it");
  }
  const uint64_t n_present_bytes = exists ? static_cast<uint64_t>(status.st_size) : 0;
  CheckSpace(path, target,
             options.expected_bytes - std::min(options.expected_bytes, n_present_bytes),
             options.expected_bytes);
  return std::make_unique<ResumableSink>(
      std::make_unique<PartialFile>(path, std::move(target), options, key), make_sink);
}

}  // namespace quern
