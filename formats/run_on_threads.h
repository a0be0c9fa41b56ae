// Computations in oneTBB with a given number of threads.
#pragma once

#include <functional>

namespace quern {

// Calls `action` with oneTBB held to `threads` threads.
void RunOnThreads(unsigned threads, const std::function<void()>& action);

}  // namespace quern
