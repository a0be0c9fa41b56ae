#include "formats/run_on_threads.h"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

namespace quern {

void RunOnThreads(unsigned threads, const std::function<void()>& action) {
  // Without it oneTBB warns where more threads are asked for than there are processors.
  const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
  tbb::task_arena(static_cast<int>(threads)).execute(action);
}

}  // namespace quern
