// A buffer between two pages that may not be touched: reading or writing past either end crashes.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace quern {

class GuardedBuffer {
 public:
  // The buffer's end (or, if not `at_end`, its begin) touches a guard page.
  GuardedBuffer(uint64_t size_bytes, bool at_end) {
    const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    const uint64_t inner = (size_bytes + page - 1) / page * page;
    mapped_bytes_ = inner + 2 * page;
    map_ = static_cast<uint8_t*>(
        mmap(nullptr, mapped_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (map_ == MAP_FAILED) throw std::runtime_error("mmap failed");
    if (mprotect(map_ + page, inner, PROT_READ | PROT_WRITE) != 0) {
      throw std::runtime_error("mprotect failed");
    }
    data_ = map_ + page + (at_end ? inner - size_bytes : 0);
  }
  ~GuardedBuffer() { munmap(map_, mapped_bytes_); }
  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  uint8_t* data() { return data_; }
  float* floats() { return reinterpret_cast<float*>(data_); }

 private:
  uint8_t* map_ = nullptr;
  uint8_t* data_ = nullptr;
  uint64_t mapped_bytes_ = 0;
};

}  // namespace quern
