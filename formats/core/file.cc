#include "formats/core/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "formats/core/checked.h"

namespace quern {
namespace {

// One read or write never moves more than this: Linux stops at 2^31 - 4096 anyway.
constexpr size_t kMaxTransferBytes = size_t{1} << 30;

std::string KindOf(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return "a special file";
}

FileStamp StampFrom(const struct stat& status) {
  const auto ns = [](const timespec& time) {
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  };
  return {{static_cast<uint64_t>(status.st_dev), static_cast<uint64_t>(status.st_ino)},
          static_cast<uint64_t>(status.st_size),
          ns(status.st_mtim),
          ns(status.st_ctim)};
}

Error TruncatedInput(const std::string& file, uint64_t offset, uint64_t found, uint64_t expected) {
  return DataError("input.truncated", "file is shorter than it was when opened")
      .File(Escaped(file, 4096))
      .Offset(offset)
      .Found(fmt::format("{} bytes", found))
      .Expected(fmt::format("{} bytes", expected))
      .Hint("another program may be writing or truncating it; wait until the file is complete");
}

}  // namespace

std::optional<FileId> FileIdOf(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return std::nullopt;
  return FileId{static_cast<uint64_t>(status.st_dev), static_cast<uint64_t>(status.st_ino)};
}

std::optional<FileStamp> FileStampOf(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return std::nullopt;
  return StampFrom(status);
}

std::optional<FileStamp> RegularFileStampOf(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  return StampFrom(status);
}

std::optional<FileId> RegularFileIdOf(int fd) {
  const auto stamp = RegularFileStampOf(fd);
  return stamp ? std::optional(stamp->id) : std::nullopt;
}

bool WaitIfWouldBlock(int fd, int err, short events) noexcept {
  if (err != EAGAIN && err != EWOULDBLOCK) return false;
  pollfd waiting = {.fd = fd, .events = events, .revents = 0};
  poll(&waiting, 1, -1);  // What is wrong, the next read or write tells.
  return true;
}

std::vector<std::string> NamesIn(const std::string& folder) {
  struct Close {
    void operator()(DIR* listing) const { closedir(listing); }
  };
  const std::unique_ptr<DIR, Close> listing(opendir(folder.c_str()));
  if (listing == nullptr) throw SystemError("file.open", "list", folder, errno);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(listing.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  if (errno != 0) throw SystemError("file.open", "list", folder, errno);
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<uint8_t> RandomAccessBytes::ReadVector(uint64_t offset, uint64_t size) const {
  std::vector<uint8_t> bytes(size);
  ReadAt(offset, bytes);
  return bytes;
}

InputFile::InputFile(const std::string& path) : path_(path) {
  // O_NONBLOCK so that a FIFO is refused instead of waited for; it does not matter for files.
  fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) throw SystemError("file.open", "open", path, errno);
  struct stat status;
  if (fstat(fd_, &status) != 0) {
    const int err = errno;
    close(fd_);
    throw SystemError("file.open", "stat", path, err);
  }
  if (!S_ISREG(status.st_mode)) {
    close(fd_);
    throw Error(ErrorCode::kSystem, "file.kind", "not a regular file")
        .File(Escaped(path, 4096))
        .Found(KindOf(status.st_mode))
        .Hint("give a file; a GGUF stream can be piped into standard input");
  }
  size_bytes_ = static_cast<uint64_t>(status.st_size);
  id_ = {static_cast<uint64_t>(status.st_dev), static_cast<uint64_t>(status.st_ino)};
}

InputFile::~InputFile() { close(fd_); }

void InputFile::ReadAt(uint64_t offset, MutableByteView out) const {
  size_t done = 0;
  while (done < out.size()) {
    const size_t n = std::min(out.size() - done, kMaxTransferBytes);
    const ssize_t got = pread(fd_, out.data() + done, n, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw SystemError("file.read", "read", path_, errno).Offset(offset + done);
    if (got == 0) throw TruncatedInput(path_, offset, done, out.size());
    done += static_cast<size_t>(got);
  }
}

void MemoryBytes::ReadAt(uint64_t offset, MutableByteView out) const {
  if (!FitsWithin(offset, out.size(), bytes_.size())) {
    throw TruncatedInput(name_, offset, bytes_.size() - std::min<uint64_t>(offset, bytes_.size()),
                         out.size());
  }
  if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
}

std::string ReadWholeFile(const std::string& path, uint64_t max_bytes) {
  const InputFile file(path);
  if (file.size_bytes() > max_bytes) {
    throw DataError("file.too-large", "file is too large for what it should be")
        .File(Escaped(path, 4096))
        .Found(fmt::format("{} bytes", file.size_bytes()))
        .Expected(fmt::format("at most {} bytes", max_bytes));
  }
  std::string text(file.size_bytes(), '\0');
  file.ReadAt(0, {reinterpret_cast<uint8_t*>(text.data()), text.size()});
  return text;
}

size_t FdStream::Read(MutableByteView out) {
  size_t done = 0;
  while (done < out.size()) {
    const size_t n = std::min(out.size() - done, kMaxTransferBytes);
    const ssize_t got = read(fd_, out.data() + done, n);
    if (got < 0 && (errno == EINTR || WaitIfWouldBlock(fd_, errno, POLLIN))) continue;
    if (got < 0) throw SystemError("file.read", "read", name_, errno).Offset(position_);
    if (got == 0) break;
    done += static_cast<size_t>(got);
    position_ += static_cast<uint64_t>(got);
  }
  return done;
}

size_t RandomAccessStream::Read(MutableByteView out) {
  const size_t n =
      static_cast<size_t>(std::min<uint64_t>(out.size(), bytes_.size_bytes() - position_));
  bytes_.ReadAt(position_, out.first(n));
  position_ += n;
  return n;
}

}  // namespace quern
