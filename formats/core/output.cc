// Outputs: AtomicFile and plain descriptors (declared in formats/core/file.h).
//
// AtomicFile writes to an unnamed file (O_TMPFILE) in the target's directory, so that even SIGKILL
// leaves nothing, and gives it its name at the end. Where the file system has no O_TMPFILE, and in
// the moment of replacing an existing target, a name `.NAME.quern-tmp-*` exists; its file is locked
// as long as its process lives, so that a later run can tell a leftover from work in progress.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

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

void WriteAll(int fd, ByteView bytes, const std::string& name) {
  while (!bytes.empty()) {
    const size_t n = std::min(bytes.size(), size_t{1} << 30);
    const ssize_t put = write(fd, bytes.data(), n);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      const int err = errno;
      // A reader that went away is no fault to report: the program ends as SIGPIPE would end it.
      Error error = SystemError(err == EPIPE ? "output.pipe" : "output.write", "write", name, err);
      if (err == ENOSPC || err == EDQUOT) error.Hint("free some space, or write to another disk");
      throw error;
    }
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
}

// Writes to a descriptor as it comes: standard output, a FIFO, a device.
class DescriptorOutput final : public Output {
 public:
  DescriptorOutput(int fd, std::string name, bool owned)
      : fd_(fd), name_(std::move(name)), owned_(owned) {}
  ~DescriptorOutput() override {
    if (owned_) close(fd_);
  }
  const std::string& name() const override { return name_; }
  void Write(ByteView bytes) override { WriteAll(fd_, bytes, name_); }
  void Commit() override {}

 private:
  int fd_;
  std::string name_;
  bool owned_;
};

class AtomicFile final : public Output {
 public:
  AtomicFile(const std::string& shown_path, const std::string& target, bool force)
      : shown_path_(shown_path), target_(target), force_(force) {
    const size_t slash = target.rfind('/');
    directory_ = slash == std::string::npos ? "." : slash == 0 ? "/" : target.substr(0, slash);
    base_name_ = slash == std::string::npos ? target : target.substr(slash + 1);
    RemoveLeftovers();
    fd_ = open(directory_.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    if (fd_ < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) OpenNamed();
    if (fd_ < 0)
      throw SystemError("output.open", "create a file in the directory of", shown_path, errno);
  }
  ~AtomicFile() override { close(fd_); }

  const std::string& name() const override { return shown_path_; }
  void Write(ByteView bytes) override { WriteAll(fd_, bytes, shown_path_); }

  void Commit() override {
    if (fsync(fd_) != 0) throw SystemError("output.write", "flush to disk", shown_path_, errno);
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
      if (force_ ? rename(named_->path().c_str(), target_.c_str()) != 0
                 : link(named_->path().c_str(), target_.c_str()) != 0) {
        throw SystemError("output.commit", "name the finished file", shown_path_, errno);
      }
      if (force_) named_->Release();
      named_.reset();
    }
    const int directory = open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory >= 0) {
      fsync(directory);  // Some file systems refuse this on directories; the file itself is safe.
      close(directory);
    }
  }

 private:
  // Returns false if `path` exists (and --force may replace it).
  bool TryLinkAs(const std::string& path) {
    const std::string self = fmt::format("/proc/self/fd/{}", fd_);
    if (linkat(AT_FDCWD, self.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) return true;
    if (errno == EEXIST && force_) return false;
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

void CheckFreeSpace(const std::string& path, const std::string& target, uint64_t expected_bytes) {
  const size_t slash = target.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : target.substr(0, slash + 1);
  struct statvfs volume;
  if (expected_bytes == 0 || statvfs(directory.c_str(), &volume) != 0) return;
  const uint64_t free_bytes = static_cast<uint64_t>(volume.f_bavail) * volume.f_frsize;
  if (free_bytes >= expected_bytes) return;
  throw Error(ErrorCode::kSystem, "output.space", "not enough free space for the output")
      .File(Escaped(path, 4096))
      .Found(fmt::format("{} bytes free", free_bytes))
      .Expected(fmt::format("{} bytes, {} more", expected_bytes, expected_bytes - free_bytes))
      .Hint("free some space, or write to another disk");
}

}  // namespace

std::unique_ptr<Output> FdOutput(int fd, std::string name) {
  return std::make_unique<DescriptorOutput>(fd, std::move(name), false);
}

std::unique_ptr<Output> OpenOutput(const std::string& path, const OutputOptions& options) {
  const std::string target = ResolveTarget(path);
  struct stat status;
  if (stat(target.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) {
      throw Error(ErrorCode::kSystem, "output.directory", "output is a directory")
          .File(Escaped(path, 4096))
          .Hint("give a file name inside it");
    }
    const FileId id{static_cast<uint64_t>(status.st_dev), static_cast<uint64_t>(status.st_ino)};
    if (std::ranges::find(options.inputs, id) != options.inputs.end()) {
      throw Error(ErrorCode::kSystem, "output.is-input", "output is one of the inputs")
          .File(Escaped(path, 4096))
          .Hint("write to another file, then rename it");
    }
    if (!S_ISREG(status.st_mode)) {
      const int fd = open(target.c_str(), O_WRONLY | O_CLOEXEC);
      if (fd < 0) throw SystemError("output.open", "open for writing", path, errno);
      return std::make_unique<DescriptorOutput>(fd, path, true);
    }
    if (!options.force) {
      throw Error(ErrorCode::kSystem, "output.exists", "output exists already")
          .File(Escaped(path, 4096))
          .Hint("give another name, or --force to replace it");
    }
  }
  CheckFreeSpace(path, target, options.expected_bytes);
  return std::make_unique<AtomicFile>(path, target, options.force);
}

void RemoveTemporaryNames() noexcept {
  for (auto& slot : g_temporary_names) {
    if (const char* path = slot.load(); path != nullptr) unlink(path);
  }
}

}  // namespace quern
