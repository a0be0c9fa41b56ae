#include "verify/row_store.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "formats/core/check.h"
#include "formats/core/checked.h"
#include "formats/core/error.h"

namespace quern {
namespace {

std::string Folder() {
  const char* folder = std::getenv("TMPDIR");
  return folder != nullptr && *folder != '\0' ? folder : "/tmp";
}

[[noreturn]] void ThrowSpill(std::string_view id, std::string_view action, int err) {
  throw SystemError(err == ENOSPC || err == EDQUOT ? "spill.space" : id, action,
                    Escaped(Folder(), 4096), err)
      .Hint(
          "windows that memory cannot hold need room on a disk: give a larger --memory, or set "
          "TMPDIR to a folder with more room");
}

// Returns a file that has no name and ends with the process.
int OpenNameless(const std::string& folder) {
  const int fd = open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0) return fd;
  if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT) {
    ThrowSpill("spill.open", "cannot make a temporary file", errno);
  }
  std::string path = folder + "/quern-spill-XXXXXX";
  const int named = mkostemp(path.data(), O_CLOEXEC);
  if (named < 0) ThrowSpill("spill.open", "cannot make a temporary file", errno);
  unlink(path.c_str());
  return named;
}

}  // namespace

RowStore::RowStore(uint64_t n_rows, uint64_t cols, RowPlace place) : n_rows_(n_rows), cols_(cols) {
  if (place == RowPlace::kMemory) {
    owned_.resize(n_rows * cols);
    rows_ = owned_.data();
    return;
  }
  fd_ = OpenNameless(Folder());
  // What the disk has no room for is told before the work. Not every file system can.
  const auto n_bytes = static_cast<off_t>(n_rows * cols * sizeof(float));
  if (n_bytes > 0 && fallocate(fd_, 0, 0, n_bytes) != 0 && errno != EOPNOTSUPP && errno != ENOSYS) {
    const int err = errno;
    close(fd_);
    ThrowSpill("spill.space",
               "cannot make a temporary file of " + std::to_string(n_bytes) + " bytes", err);
  }
}

RowStore::RowStore(float* rows, uint64_t n_rows, uint64_t cols)
    : n_rows_(n_rows), cols_(cols), rows_(rows) {}

RowStore::~RowStore() {
  if (fd_ >= 0) close(fd_);
}

RowStore::RowStore(RowStore&& other) noexcept
    : n_rows_(other.n_rows_),
      cols_(other.cols_),
      owned_(std::move(other.owned_)),
      rows_(std::exchange(other.rows_, nullptr)),
      fd_(std::exchange(other.fd_, -1)) {}

float* RowStore::Get(uint64_t begin, uint64_t count, std::vector<float>& buffer) {
  return const_cast<float*>(std::as_const(*this).Get(begin, count, buffer));
}

const float* RowStore::Get(uint64_t begin, uint64_t count, std::vector<float>& buffer) const {
  QUERN_CHECK(FitsWithin(begin, count, n_rows_));
  if (in_memory()) return rows_ + begin * cols_;
  buffer.resize(std::max<size_t>(buffer.size(), count * cols_));
  auto* out = reinterpret_cast<char*>(buffer.data());
  size_t left = count * cols_ * sizeof(float);
  auto offset = static_cast<off_t>(begin * cols_ * sizeof(float));
  while (left > 0) {
    const ssize_t n = pread(fd_, out, left, offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) ThrowSpill("spill.read", "cannot read back a temporary file", n < 0 ? errno : EIO);
    out += n;
    offset += n;
    left -= static_cast<size_t>(n);
  }
  return buffer.data();
}

float* RowStore::Room(uint64_t begin, uint64_t count, std::vector<float>& buffer) {
  QUERN_CHECK(FitsWithin(begin, count, n_rows_));
  if (in_memory()) return rows_ + begin * cols_;
  buffer.resize(std::max<size_t>(buffer.size(), count * cols_));
  return buffer.data();
}

void RowStore::Put(uint64_t begin, uint64_t count, const float* rows) {
  QUERN_CHECK(FitsWithin(begin, count, n_rows_));
  if (in_memory()) {
    float* to = rows_ + begin * cols_;
    if (to != rows) std::memmove(to, rows, count * cols_ * sizeof(float));
    return;
  }
  const auto* in = reinterpret_cast<const char*>(rows);
  size_t left = count * cols_ * sizeof(float);
  auto offset = static_cast<off_t>(begin * cols_ * sizeof(float));
  while (left > 0) {
    const ssize_t n = pwrite(fd_, in, left, offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) ThrowSpill("spill.write", "cannot write a temporary file", errno);
    in += n;
    offset += n;
    left -= static_cast<size_t>(n);
  }
}

void RowStore::CopyFrom(const RowStore& other) {
  QUERN_CHECK(n_rows_ == other.n_rows_ && cols_ == other.cols_);
  constexpr uint64_t kPieceElems = uint64_t{1} << 18;
  const uint64_t piece = std::max<uint64_t>(1, kPieceElems / std::max<uint64_t>(1, cols_));
  std::vector<float> buffer;
  for (uint64_t begin = 0; begin < n_rows_; begin += piece) {
    const uint64_t count = std::min(piece, n_rows_ - begin);
    Put(begin, count, other.Get(begin, count, buffer));
  }
}

void RowStore::Truncate(uint64_t n_rows) {
  QUERN_CHECK(n_rows <= n_rows_);
  n_rows_ = n_rows;
  if (fd_ >= 0) {
    // Only gives room back early: what fails here is no harm.
    [[maybe_unused]] const int done =
        ftruncate(fd_, static_cast<off_t>(n_rows * cols_ * sizeof(float)));
  } else if (!owned_.empty()) {
    owned_.resize(n_rows * cols_);
    owned_.shrink_to_fit();
    rows_ = owned_.data();
  }
}

}  // namespace quern
