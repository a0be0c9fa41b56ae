#include "formats/core/buffer_pool.h"

#include <algorithm>
#include <new>
#include <string>
#include <utility>

#include "formats/core/error.h"

namespace quern {

void BufferPool::Lease::Free::operator()(uint8_t* data) const {
  ::operator delete (data, std::align_val_t{kAlignmentBytes});
}

BufferPool::Lease& BufferPool::Lease::operator=(Lease&& other) noexcept {
  if (this != &other) {
    Return();
    pool_ = other.pool_;
    block_ = std::move(other.block_);
  }
  return *this;
}

BufferPool::Lease::~Lease() { Return(); }

void BufferPool::Lease::Return() noexcept {
  if (block_.data) pool_->GiveBack(std::move(block_));
}

BufferPool::Lease BufferPool::Acquire(uint64_t size_bytes, std::string_view what) {
  size_bytes = std::max<uint64_t>(size_bytes, 1);
  if (size_bytes > budget_bytes_) throw MemoryBudgetError(what, size_bytes, budget_bytes_);
  std::unique_lock lock(mutex_);
  returned_.wait(lock, [&] { return size_bytes <= budget_bytes_ - leased_bytes_; });
  // The smallest idle block that is large enough and does not break the budget.
  auto best = idle_.end();
  for (auto it = idle_.begin(); it != idle_.end(); ++it) {
    const bool fits =
        it->size_bytes >= size_bytes && it->size_bytes <= budget_bytes_ - leased_bytes_;
    if (fits && (best == idle_.end() || it->size_bytes < best->size_bytes)) best = it;
  }
  Lease::Block block;
  if (best != idle_.end()) {
    std::swap(*best, idle_.back());
    block = std::move(idle_.back());
    idle_.pop_back();
    idle_bytes_ -= block.size_bytes;
  } else {
    // Idle blocks make room for new ones.
    while (!idle_.empty() && size_bytes > budget_bytes_ - leased_bytes_ - idle_bytes_) {
      idle_bytes_ -= idle_.back().size_bytes;
      idle_.pop_back();
    }
    block.data.reset(
        static_cast<uint8_t*>(::operator new (size_bytes, std::align_val_t{kAlignmentBytes})));
    block.size_bytes = size_bytes;
  }
  leased_bytes_ += block.size_bytes;
  peak_bytes_ = std::max(peak_bytes_, leased_bytes_);
  return Lease(this, std::move(block));
}

void BufferPool::GiveBack(Lease::Block block) noexcept {
  {
    const std::lock_guard lock(mutex_);
    leased_bytes_ -= block.size_bytes;
    // If there is no memory for the list, the block is freed instead of kept.
    try {
      const uint64_t size_bytes = block.size_bytes;
      idle_.push_back(std::move(block));
      idle_bytes_ += size_bytes;
    } catch (const std::bad_alloc&) {
    }
  }
  returned_.notify_all();
}

uint64_t BufferPool::peak_bytes() const {
  const std::lock_guard lock(mutex_);
  return peak_bytes_;
}

Error MemoryBudgetError(std::string_view what, uint64_t needed_bytes, uint64_t budget_bytes) {
  const auto mebibytes = [](uint64_t bytes) {
    return std::to_string(bytes / (1u << 20) + (bytes % (1u << 20) != 0 ? 1 : 0)) + " MiB";
  };
  return Error(ErrorCode::kMemory, "memory.budget",
               std::string(what) + " does not fit into the memory budget")
      .Found("a need of " + std::to_string(needed_bytes) + " bytes")
      .Expected("at most " + std::to_string(budget_bytes) + " bytes")
      .Hint("give it at least --memory " + mebibytes(needed_bytes));
}

}  // namespace quern
