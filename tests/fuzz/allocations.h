// The largest single allocation, where AddressSanitizer tells of them: a reader must ask for no more
// memory than its input accounts for. To be included by one harness each.
#pragma once

#include <cstddef>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
extern "C" {
int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void*, size_t),
                                              void (*free_hook)(const volatile void*));
}
#define QUERN_COUNT_ALLOCATIONS 1
#endif
#endif

namespace quern::fuzz {

// 0 where nothing is counted.
inline size_t g_largest_allocation = 0;

#ifdef QUERN_COUNT_ALLOCATIONS
inline const int g_hooked = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, size_t size) {
      if (size > g_largest_allocation) g_largest_allocation = size;
    },
    [](const volatile void*) {});
#endif

}  // namespace quern::fuzz
