// Files and pipes: bounded random access, sequential streams, and outputs that appear whole or not
// at all.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "formats/core/bytes.h"

namespace quern {

// Identifies a file independent of its name; equal for hard links and through symbolic links.
struct FileId {
  uint64_t device = 0;
  uint64_t inode = 0;
  bool operator==(const FileId&) const = default;
};

// Returns the identity of the file at `path`, or nothing if there is none.
std::optional<FileId> FileIdOf(const std::string& path);

// What changes when a file changes. Times are those since 1970.
struct FileStamp {
  FileId id;
  uint64_t size_bytes = 0;
  int64_t modified_ns = 0;
  int64_t status_changed_ns = 0;  // not compared: a new name or mode changes it too
  bool operator==(const FileStamp& other) const {
    return id == other.id && size_bytes == other.size_bytes && modified_ns == other.modified_ns;
  }
};

// Returns the stamp of the file at `path`, or nothing if there is none.
std::optional<FileStamp> FileStampOf(const std::string& path);
// Returns the stamp of the regular file behind an open descriptor, or nothing where it is another
// kind.
std::optional<FileStamp> RegularFileStampOf(int fd);
// Returns the identity of the regular file that the open descriptor reads or writes, or nothing
// where it is a pipe, a terminal or a device.
std::optional<FileId> RegularFileIdOf(int fd);

// Returns the names in a folder, sorted, but for "." and "..".
// Throws: Error kSystem "file.open". (std::filesystem's iterators end the program where they find
// no memory.)
std::vector<std::string> NamesIn(const std::string& folder);

// Bytes that can be read at any place. ReadAt may be called from many threads at once.
class RandomAccessBytes {
 public:
  virtual ~RandomAccessBytes() = default;
  virtual uint64_t size_bytes() const = 0;
  virtual const std::string& name() const = 0;
  // Fills `out` with the bytes from `offset`.
  // Throws: Error kData "input.truncated" if the file has become shorter than size_bytes(), or
  // the extent was never inside it; kSystem if the read fails.
  virtual void ReadAt(uint64_t offset, MutableByteView out) const = 0;

  // Returns the bytes [offset, offset + size) in a new buffer.
  // Requires: the caller has checked that the extent lies in the file.
  std::vector<uint8_t> ReadVector(uint64_t offset, uint64_t size) const;
};

// A regular file, read with pread (a file truncated under an mmap is a SIGBUS; a short pread is an
// error message).
class InputFile final : public RandomAccessBytes {
 public:
  // Throws: Error kSystem "file.open" if it cannot be opened; "file.kind" if it is no regular file.
  explicit InputFile(const std::string& path);
  ~InputFile() override;
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  uint64_t size_bytes() const override { return size_bytes_; }
  const std::string& name() const override { return path_; }
  void ReadAt(uint64_t offset, MutableByteView out) const override;
  FileId id() const { return id_; }

 private:
  std::string path_;
  int fd_ = -1;
  uint64_t size_bytes_ = 0;
  FileId id_;
};

// Bytes in memory, which the caller keeps alive.
class MemoryBytes final : public RandomAccessBytes {
 public:
  MemoryBytes(ByteView bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {}
  uint64_t size_bytes() const override { return bytes_.size(); }
  const std::string& name() const override { return name_; }
  void ReadAt(uint64_t offset, MutableByteView out) const override;

 private:
  ByteView bytes_;
  std::string name_;
};

// Returns the whole file, which must not be larger than `max_bytes`.
// Throws: as InputFile; Error kData "file.too-large".
std::string ReadWholeFile(const std::string& path, uint64_t max_bytes);

// Bytes that come once, in order.
class ByteStream {
 public:
  virtual ~ByteStream() = default;
  virtual const std::string& name() const = 0;
  // Fills `out`; returns fewer bytes only at the end of the stream.
  virtual size_t Read(MutableByteView out) = 0;
  // Returns the length of the whole stream where it is known beforehand.
  virtual std::optional<uint64_t> size_bytes() const = 0;
  uint64_t position() const { return position_; }

 protected:
  uint64_t position_ = 0;
};

// Standard input (or another descriptor, which stays open).
class FdStream final : public ByteStream {
 public:
  FdStream(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}
  const std::string& name() const override { return name_; }
  size_t Read(MutableByteView out) override;
  std::optional<uint64_t> size_bytes() const override { return std::nullopt; }

 private:
  int fd_;
  std::string name_;
};

// A walk over random-access bytes from their beginning. Requires: `bytes` outlives it.
class RandomAccessStream final : public ByteStream {
 public:
  explicit RandomAccessStream(const RandomAccessBytes& bytes) : bytes_(bytes) {}
  const std::string& name() const override { return bytes_.name(); }
  size_t Read(MutableByteView out) override;
  std::optional<uint64_t> size_bytes() const override { return bytes_.size_bytes(); }

 private:
  const RandomAccessBytes& bytes_;
};

// Where bytes go. Nothing counts before Commit; an output destroyed without it leaves no trace
// (as far as its kind allows: what went into a pipe is gone).
class Output {
 public:
  virtual ~Output() = default;
  virtual const std::string& name() const = 0;
  // Throws: Error kSystem "output.write"; "output.pipe" if nobody reads the pipe any more.
  virtual void Write(ByteView bytes) = 0;
  virtual void Commit() = 0;
};

struct OutputOptions {
  bool force = false;           // Replace an existing file, or what is on a block device.
  bool never_terminal = false;  // The bytes are not for reading.
  std::vector<FileId> inputs;   // Files that the output must not be.
  uint64_t expected_bytes = 0;  // For the free-space check; 0 = unknown.
};

// Returns the output for `path`: an AtomicFile; a plain descriptor for a device or FIFO.
// Throws: Error kSystem "output.exists", "output.is-input", "output.directory", "output.space",
// "output.open"; kUsage "usage.binary-to-terminal". Messages name the path.
std::unique_ptr<Output> OpenOutput(const std::string& path, const OutputOptions& options);

// Returns an output over an open descriptor (standard output), which stays open.
// Throws: Error kSystem "output.is-input", "output.space" where it is a regular file; kUsage
// "usage.binary-to-terminal".
std::unique_ptr<Output> FdOutput(int fd, std::string name, const OutputOptions& options = {});

// Waits until a descriptor that does not block (one gets such pipes from other programs) can go on
// reading or writing. Returns false if `err` is an error of another kind.
bool WaitIfWouldBlock(int fd, int err, short events) noexcept;

// Where an output goes once its path was followed and checked.
struct OutputTarget {
  std::string path;     // of a file: without symbolic links at its end
  bool is_file = true;  // false: a device or FIFO
  std::string directory() const;
};

// Returns where an output at `path` goes. Looks only; throws as OpenOutput, but for free space.
OutputTarget FindOutputTarget(const std::string& path, const OutputOptions& options);

// Throws: Error kSystem "output.space" if `needed_bytes` more do not fit beside `target`, or a
// file of `file_bytes` would be larger than the process may write (`ulimit -f`). `shown_path` is
// for the message.
void CheckSpace(const std::string& shown_path, const OutputTarget& target, uint64_t needed_bytes,
                uint64_t file_bytes);

// Writes to a descriptor. Where that is a file that is to be on the disk at the end, the disk is
// told to start early, so that there is little left to wait for.
class FileWriter {
 public:
  // `name` is for messages. Does not own `fd`.
  FileWriter(int fd, std::string name);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;
  // From now on, tells the disk to start whenever some MiB were written; on a thread of its own,
  // since a busy disk takes its time to answer even that.
  void StartEarly();
  // Throws: Error kSystem "output.write"; "output.pipe" if nobody reads the pipe any more.
  void Write(ByteView bytes);
  // Waits until everything is on the disk. Throws: Error kSystem "output.write".
  void Sync();

 private:
  class DiskStarter;

  int fd_;
  std::string name_;
  uint64_t n_pending_bytes_ = 0;  // written since the disk was last told to start
  std::unique_ptr<DiskStarter> starter_;
};

// Gives the finished file `from` the name `to`, in the same directory; only `force` replaces a file
// that is there. Returns false, with errno, if that fails (EEXIST: there is one).
bool MoveIntoPlace(const std::string& from, const std::string& to, bool force) noexcept;

// Makes the names in a directory durable, where the file system can.
void SyncDirectory(const std::string& directory) noexcept;

// Collects bytes in memory.
class MemoryOutput final : public Output {
 public:
  const std::string& name() const override { return name_; }
  void Write(ByteView bytes) override { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  void Commit() override { committed_ = true; }
  const std::vector<uint8_t>& bytes() const { return bytes_; }
  bool committed() const { return committed_; }

 private:
  std::string name_ = "(memory)";
  std::vector<uint8_t> bytes_;
  bool committed_ = false;
};

// Removes temporary names of unfinished outputs. Async-signal-safe: for signal handlers.
void RemoveTemporaryNames() noexcept;

}  // namespace quern
