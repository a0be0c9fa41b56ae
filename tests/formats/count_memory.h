// Counts every allocation of a test program. To be included by one of its sources only: it replaces
// operator new and delete.
#pragma once

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace quern::testing {

inline std::atomic<size_t> g_live{0}, g_peak{0};

inline void* Allocate(size_t size) {
  void* p = std::malloc(size);
  if (p == nullptr) throw std::bad_alloc();
  const size_t live = g_live += malloc_usable_size(p);
  size_t peak = g_peak;
  while (live > peak && !g_peak.compare_exchange_weak(peak, live)) {
  }
  return p;
}

inline void Free(void* p) {
  g_live -= malloc_usable_size(p);
  std::free(p);
}

}  // namespace quern::testing

void* operator new(size_t size) { return quern::testing::Allocate(size); }
void* operator new[](size_t size) { return quern::testing::Allocate(size); }
// Temporary buffers of the standard algorithms come from here and go through plain delete.
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  try {
    return quern::testing::Allocate(size);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void operator delete(void* p) noexcept { quern::testing::Free(p); }
void operator delete[](void* p) noexcept { quern::testing::Free(p); }
void operator delete(void* p, size_t) noexcept { quern::testing::Free(p); }
void operator delete[](void* p, size_t) noexcept { quern::testing::Free(p); }

namespace quern::testing {

// Returns the memory that `action` had at most, beyond what there was before.
template <typename Action>
size_t PeakOf(const Action& action) {
  const size_t before = g_live;
  g_peak = before;
  action();
  return g_peak - before;
}

}  // namespace quern::testing
