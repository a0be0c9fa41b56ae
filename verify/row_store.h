// Rows of floats that are used a part at a time: in memory, or in a file without a name where
// memory has no room for all of them.
#pragma once

#include <cstdint>
#include <vector>

namespace quern {

// Where the rows are that a forward pass works on a part at a time.
enum class RowPlace : uint8_t { kMemory, kFile };

class RowStore {
 public:
  // Zeros in memory; in a file (in $TMPDIR, else /tmp) whatever is there, until Put.
  // Throws: Error kSystem "spill.open", or "spill.space" where the disk has no room for all rows.
  RowStore(uint64_t n_rows, uint64_t cols, RowPlace place);
  // Rows that the caller keeps. Shape: rows [n_rows, cols].
  RowStore(float* rows, uint64_t n_rows, uint64_t cols);
  ~RowStore();
  RowStore(RowStore&& other) noexcept;
  RowStore& operator=(RowStore&&) = delete;

  uint64_t n_rows() const { return n_rows_; }
  uint64_t cols() const { return cols_; }
  bool in_memory() const { return fd_ < 0; }

  // Returns the rows [begin, begin + count): themselves where they are in memory, else a copy in
  // `buffer`, which Put writes back. Shape: [count, cols].
  // Throws: Error kSystem "spill.read".
  float* Get(uint64_t begin, uint64_t count, std::vector<float>& buffer);
  const float* Get(uint64_t begin, uint64_t count, std::vector<float>& buffer) const;
  // Returns where the rows [begin, begin + count) can be written, whatever they hold; to be Put.
  float* Room(uint64_t begin, uint64_t count, std::vector<float>& buffer);
  // Makes `rows` the rows [begin, begin + count); nothing is to do where Get returned themselves.
  // Throws: Error kSystem "spill.space" or "spill.write".
  void Put(uint64_t begin, uint64_t count, const float* rows);

  // Makes all rows those of `other`. Requires: the same size.
  void CopyFrom(const RowStore& other);
  // Keeps the first `n_rows` and gives back what the others took.
  void Truncate(uint64_t n_rows);

 private:
  uint64_t n_rows_, cols_;
  std::vector<float> owned_;
  float* rows_ = nullptr;
  int fd_ = -1;  // of the file, where the rows are in one
};

}  // namespace quern
