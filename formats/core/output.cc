// Outputs: AtomicFile and plain descriptors (declared in formats/core/file.h).
//
// AtomicFile writes to an unnamed file (O_TMPFILE) in the target's directory, so that even SIGKILL
// leaves nothing, and gives it its name at the end. Where the file system has no O_TMPFILE, and in
// the moment of replacing an existing target, a name `.NAME.quern-tmp-*` exists; its file is locked
// as long as its process lives, so that a later run can tell a leftover from work in progress.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>

#include "formats/core/file.h"

namespace quern {
namespace {

// Temporary names that exist now, for RemoveTemporaryNames. One process writes few files at once.
constexpr size_t kMaxTemporaryNames = 16;
std::atomic<const char*> g_temporary_names[kMaxTemporaryNames];

// Owns a temporary name: removes it unless released.
class TemporaryName {
 public:
  explicit TemporaryName(std::string path) : path_(std::move(path)) {
    for (auto& slot : g_temporary_names) {
      const char* empty = nullptr;
      if (slot.compare_exchange_strong(empty, path_.c_str())) {
        slot_ = &slot;
        break;
      }
    }
  }
  ~TemporaryName() {
    if (!released_) unlink(path_.c_str());
    if (slot_ != nullptr) slot_->store(nullptr);
  }
  TemporaryName(const TemporaryName&) = delete;
  TemporaryName& operator=(const TemporaryName&) = delete;
  void Release() { released_ = true; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::atomic<const char*>* slot_ = nullptr;
  bool released_ = false;
};

// The disk is told to start whenever this much was written.
constexpr uint64_t kWritebackBytes = uint64_t{16} << 20;

Error ExistsError(const std::string& path) {
  return Error(ErrorCode::kSystem, "output.exists", "output exists already")
      .File(Escaped(path, 4096))
      .Hint("give another name, or --force to replace it");
}
Error TerminalError(const std::string& path) {
  return Error(ErrorCode::kUsage, "usage.binary-to-terminal",
               "a model is not written to a terminal")
      .File(Escaped(path, 4096))
      .Hint("name a file with -o, or redirect standard output");
}
Error IsInputError(const std::string& path) {
  return Error(ErrorCode::kSystem, "output.is-input", "output is one of the inputs")
      .File(Escaped(path, 4096))
      .Hint("write to another file, then rename it");
}

// Writes to a descriptor as it comes: standard output, a FIFO, a device.
class DescriptorOutput final : public Output {
 public:
  DescriptorOutput(int fd, std::string name, bool owned)
      : fd_(fd), writer_(fd, name), name_(std::move(name)), owned_(owned) {}
  ~DescriptorOutput() override {
    if (owned_) close(fd_);
  }
  const std::string& name() const override { return name_; }
  void Write(ByteView bytes) override { writer_.Write(bytes); }
  void Commit() override {
    // Where a disk is behind it, errors may come late.
    struct stat status;
    if (fstat(fd_, &status) != 0) return;
    if (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode)) writer_.Sync();
  }

 private:
  int fd_;
  FileWriter writer_;
  std::string name_;
  bool owned_;
};

class AtomicFile final : public Output {
 public:
  AtomicFile(const std::string& shown_path, const OutputTarget& target, bool force)
      : shown_path_(shown_path),
        target_(target.path),
        directory_(target.directory()),
        base_name_(target_.substr(target_.rfind('/') + 1)),
        force_(force) {
    RemoveLeftovers();
    // A file without a name gets one through /proc, which some sandboxes lack.
    const bool can_name = access("/proc/self/fd", X_OK) == 0;
    if (can_name) fd_ = open(directory_.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    if (!can_name || (fd_ < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL))) {
      OpenNamed();
    }
    if (fd_ < 0)
      throw SystemError("output.open", "create a file in the directory of", shown_path, errno);
    writer_.emplace(fd_, shown_path_);
    writer_->StartEarly();
  }
  ~AtomicFile() override {
    writer_.reset();
    close(fd_);
  }

  const std::string& name() const override { return shown_path_; }
  void Write(ByteView bytes) override { writer_->Write(bytes); }

  void Commit() override {
    writer_->Sync();
    if (named_ == nullptr && !TryLinkAs(target_)) {
      // The target exists: give the file a temporary name and rename that over it.
      named_ = std::make_unique<TemporaryName>(NewTemporaryPath());
      flock(fd_, LOCK_EX | LOCK_NB);
      if (!TryLinkAs(named_->path())) {
        throw SystemError("output.commit", "name the finished file", shown_path_, EEXIST);
      }
    }
    if (named_ != nullptr) {
      // Another program may have made the target meanwhile: only --force may replace it.
      if (!MoveIntoPlace(named_->path(), target_, force_)) {
        if (errno == EEXIST) throw ExistsError(shown_path_);
        throw SystemError("output.commit", "name the finished file", shown_path_, errno);
      }
      named_.reset();
    }
    SyncDirectory(directory_);
  }

 private:
  // Returns false if `path` exists (and --force may replace it).
  bool TryLinkAs(const std::string& path) {
    const std::string self = fmt::format("/proc/self/fd/{}", fd_);
    if (linkat(AT_FDCWD, self.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) return true;
    if (errno == EEXIST && force_) return false;
    if (errno == EEXIST) throw ExistsError(shown_path_);
    throw SystemError("output.commit", "name the finished file", shown_path_, errno);
  }

  std::string NewTemporaryPath() const {
    static std::atomic<uint32_t> counter{0};
    return fmt::format("{}/.{}.quern-tmp-{}-{}", directory_, base_name_.substr(0, 200), getpid(),
                       counter++);
  }

  void OpenNamed() {
    auto temporary = std::make_unique<TemporaryName>(NewTemporaryPath());
    fd_ = open(temporary->path().c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
    if (fd_ < 0) {
      temporary->Release();  // Not ours.
      return;
    }
    flock(fd_, LOCK_EX | LOCK_NB);
    named_ = std::move(temporary);
    // Another run may have taken the name for a leftover before it was locked.
    struct stat status;
    if (fstat(fd_, &status) != 0 || status.st_nlink != 0) return;
    close(fd_);
    named_.reset();
    OpenNamed();
  }

  // Removes names that a killed run with the same target left, unless their process still lives.
  void RemoveLeftovers() const {
    const std::string prefix = fmt::format(".{}.quern-tmp-", base_name_.substr(0, 200));
    DIR* listing = opendir(directory_.c_str());
    if (listing == nullptr) return;
    while (const dirent* entry = readdir(listing)) {
      if (std::strncmp(entry->d_name, prefix.c_str(), prefix.size()) != 0) continue;
      const std::string path = directory_ + "/" + entry->d_name;
      const int fd = open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
      if (fd < 0) continue;
      if (flock(fd, LOCK_EX | LOCK_NB) == 0) unlink(path.c_str());
      close(fd);
    }
    closedir(listing);
  }

  std::string shown_path_, target_, directory_, base_name_;
  bool force_;
  int fd_ = -1;
  std::optional<FileWriter> writer_;
  std::unique_ptr<TemporaryName> named_;
};

// Returns `path` with symbolic links resolved, also where the last link's target does not exist
// yet.
std::string ResolveTarget(const std::string& path) {
  std::string current = path;
  for (int depth = 0; depth < 40; ++depth) {
    char link_text[4096];
    const ssize_t n = readlink(current.c_str(), link_text, sizeof link_text);
    if (n < 0 || n == static_cast<ssize_t>(sizeof link_text)) return current;
    const std::string_view text(link_text, static_cast<size_t>(n));
    const size_t slash = current.rfind('/');
    current = text.starts_with('/') || slash == std::string::npos
                  ? std::string(text)
                  : current.substr(0, slash + 1) + std::string(text);
  }
  throw SystemError("output.open", "follow the links of", path, ELOOP);
}

// Throws if `needed_bytes` are more than the volume has, or `file_bytes` more than a file may have.
void CheckSpaceOn(const std::string& shown_path, const struct statvfs& volume,
                  uint64_t needed_bytes, uint64_t file_bytes) {
  const uint64_t free_bytes = static_cast<uint64_t>(volume.f_bavail) * volume.f_frsize;
  const bool is_known = volume.f_blocks > 0;  // Some file systems do not count.
  if (is_known && needed_bytes > free_bytes) {
    throw Error(ErrorCode::kSystem, "output.space", "not enough free space for the output")
        .File(Escaped(shown_path, 4096))
        .Found(fmt::format("{} bytes free", free_bytes))
        .Expected(fmt::format("{} bytes, {} more", needed_bytes, needed_bytes - free_bytes))
        .Hint("free some space, or write to another disk");
  }
  struct rlimit limit;
  if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      file_bytes > limit.rlim_cur) {
    throw Error(ErrorCode::kSystem, "output.space", "output is larger than files may be here")
        .File(Escaped(shown_path, 4096))
        .Found(fmt::format("a limit of {} bytes", limit.rlim_cur))
        .Expected(fmt::format("{} bytes, {} more", file_bytes, file_bytes - limit.rlim_cur))
        .Hint("raise the limit: ulimit -f");
  }
}

}  // namespace

// Tells the disk to write what there is, on a thread of its own.
class FileWriter::DiskStarter {
 public:
  explicit DiskStarter(int fd) : fd_(fd), thread_([this] { Run(); }) {}
  ~DiskStarter() {
    {
      const std::lock_guard lock(mutex_);
      is_over_ = true;
    }
    asked_.notify_one();
    thread_.join();
  }
  void Ask() {
    {
      const std::lock_guard lock(mutex_);
      is_asked_ = true;
    }
    asked_.notify_one();
  }

 private:
  void Run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      asked_.wait(lock, [this] { return is_asked_ || is_over_; });
      if (is_over_) return;
      is_asked_ = false;
      lock.unlock();
      // A hint: what goes wrong on the disk is told by fsync.
      sync_file_range(fd_, 0, 0, SYNC_FILE_RANGE_WRITE);
      lock.lock();
    }
  }

  const int fd_;
  std::mutex mutex_;
  std::condition_variable asked_;
  bool is_asked_ = false, is_over_ = false;
  std::thread thread_;  // last: it uses all of the above
};

FileWriter::FileWriter(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}
FileWriter::~FileWriter() = default;

void FileWriter::StartEarly() {
  try {
    starter_ = std::make_unique<DiskStarter>(fd_);
  } catch (const std::system_error&) {
    // No thread is to be had: all that is lost is time at the end.
  }
}

void FileWriter::Write(ByteView bytes) {
  while (!bytes.empty()) {
    const size_t n = std::min(bytes.size(), size_t{1} << 30);
    const ssize_t put = write(fd_, bytes.data(), n);
    if (put < 0 && (errno == EINTR || WaitIfWouldBlock(fd_, errno, POLLOUT))) continue;
    if (put < 0) {
      const int err = errno;
      // A reader that went away is no fault to report: the program ends as SIGPIPE would end it.
      Error error = SystemError(err == EPIPE ? "output.pipe" : "output.write", "write", name_, err);
      if (err == ENOSPC || err == EDQUOT) error.Hint("free some space, or write to another disk");
      throw error;
    }
    bytes = bytes.subspan(static_cast<size_t>(put));
    n_pending_bytes_ += static_cast<uint64_t>(put);
  }
  if (starter_ == nullptr || n_pending_bytes_ < kWritebackBytes) return;
  n_pending_bytes_ = 0;
  starter_->Ask();
}

void FileWriter::Sync() {
  starter_.reset();
  if (fsync(fd_) == 0) return;
  const int err = errno;
  Error error = SystemError("output.write", "flush to disk", name_, err);
  if (err == ENOSPC || err == EDQUOT) error.Hint("free some space, or write to another disk");
  throw error;
}

bool MoveIntoPlace(const std::string& from, const std::string& to, bool force) noexcept {
  if (force) return rename(from.c_str(), to.c_str()) == 0;
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return true;
  if (errno != EINVAL && errno != ENOSYS) return false;
  // The file system does not know that flag. What was moved is there even if the old name stays.
  if (link(from.c_str(), to.c_str()) == 0) return unlink(from.c_str()), true;
  if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS) return false;
  // Nor has it hard links: nothing is left but to look first.
  if (faccessat(AT_FDCWD, to.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0) return errno = EEXIST, false;
  return rename(from.c_str(), to.c_str()) == 0;
}

void SyncDirectory(const std::string& directory) noexcept {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);  // Some file systems refuse this on directories; the file itself is safe.
  close(fd);
}

std::string OutputTarget::directory() const {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

std::unique_ptr<Output> FdOutput(int fd, std::string name, const OutputOptions& options) {
  if (options.never_terminal && isatty(fd) == 1) throw TerminalError(name);
  if (const auto id = RegularFileIdOf(fd)) {
    if (std::ranges::find(options.inputs, *id) != options.inputs.end()) throw IsInputError(name);
    struct statvfs volume;
    if (fstatvfs(fd, &volume) == 0) {
      CheckSpaceOn(name, volume, options.expected_bytes, options.expected_bytes);
    }
  }
  return std::make_unique<DescriptorOutput>(fd, std::move(name), false);
}

OutputTarget FindOutputTarget(const std::string& path, const OutputOptions& options) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) {
    if (errno != ENOENT) throw SystemError("output.open", "open for writing", path, errno);
    return {ResolveTarget(path)};
  }
  if (S_ISDIR(status.st_mode)) {
    throw Error(ErrorCode::kSystem, "output.directory", "output is a directory")
        .File(Escaped(path, 4096))
        .Hint("give a file name inside it");
  }
  const FileId id{static_cast<uint64_t>(status.st_dev), static_cast<uint64_t>(status.st_ino)};
  if (std::ranges::find(options.inputs, id) != options.inputs.end()) throw IsInputError(path);
  const bool is_file = S_ISREG(status.st_mode);
  if ((is_file || S_ISBLK(status.st_mode)) && !options.force) throw ExistsError(path);
  // The path of a pipe or device may lead through links that name no file (/dev/stdout).
  return {is_file ? ResolveTarget(path) : path, is_file};
}

void CheckSpace(const std::string& shown_path, const OutputTarget& target, uint64_t needed_bytes,
                uint64_t file_bytes) {
  struct statvfs volume;
  if (statvfs(target.directory().c_str(), &volume) != 0) return;
  CheckSpaceOn(shown_path, volume, needed_bytes, file_bytes);
}

std::unique_ptr<Output> OpenOutput(const std::string& path, const OutputOptions& options) {
  const OutputTarget target = FindOutputTarget(path, options);
  if (!target.is_file) {
    const int fd = open(target.path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) throw SystemError("output.open", "open for writing", path, errno);
    if (options.never_terminal && isatty(fd) == 1) {
      close(fd);
      throw TerminalError(path);
    }
    return std::make_unique<DescriptorOutput>(fd, path, true);
  }
  CheckSpace(path, target, options.expected_bytes, options.expected_bytes);
  return std::make_unique<AtomicFile>(path, target, options.force);
}

void RemoveTemporaryNames() noexcept {
  for (auto& slot : g_temporary_names) {
    if (const char* path = slot.load(); path != nullptr) unlink(path);
  }
}

}  // namespace quern
