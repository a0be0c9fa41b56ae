// Memory with a fixed budget: the mechanism by which a pass keeps to --memory.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "formats/core/bytes.h"

namespace quern {

// Hands out buffers that never exceed a budget together. Returned buffers are kept for reuse, so
// that a pass touches fresh pages only once. Thread-safe; must outlive its leases.
class BufferPool {
 public:
  static constexpr uint64_t kAlignmentBytes = 64;

  explicit BufferPool(uint64_t budget_bytes) : budget_bytes_(budget_bytes) {}

  // A buffer, given back when destroyed. Its contents are indeterminate at first.
  class Lease {
   public:
    Lease() = default;
    Lease(Lease&& other) noexcept : pool_(other.pool_), block_(std::move(other.block_)) {}
    Lease& operator=(Lease&& other) noexcept;
    ~Lease();
    // At least the size that was asked for, aligned to kAlignmentBytes; empty if there is no lease.
    MutableByteView bytes() const { return {block_.data.get(), block_.size_bytes}; }

   private:
    friend class BufferPool;
    struct Free {
      void operator()(uint8_t* data) const;
    };
    struct Block {
      std::unique_ptr<uint8_t, Free> data;
      uint64_t size_bytes = 0;
    };
    Lease(BufferPool* pool, Block block) : pool_(pool), block_(std::move(block)) {}
    void Return() noexcept;

    BufferPool* pool_ = nullptr;
    Block block_;
  };

  // Returns a buffer of at least `size_bytes`, after waiting for other leases to end if the budget
  // is used up. A thread that holds leases may wait for itself: ask for all of them at once, or
  // know that they fit.
  // Throws: Error kMemory "memory.budget" if it can never fit; `what` names the need.
  Lease Acquire(uint64_t size_bytes, std::string_view what);

  uint64_t budget_bytes() const { return budget_bytes_; }
  // The most bytes that were ever leased at once.
  uint64_t peak_bytes() const;

 private:
  void GiveBack(Lease::Block block) noexcept;

  const uint64_t budget_bytes_;
  mutable std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<Lease::Block> idle_;
  uint64_t leased_bytes_ = 0;  // without the idle ones
  uint64_t idle_bytes_ = 0;
  uint64_t peak_bytes_ = 0;
};

// Returns the error for a need that does not fit into the budget.
Error MemoryBudgetError(std::string_view what, uint64_t needed_bytes, uint64_t budget_bytes);

}  // namespace quern
