// How many threads this process may use.
#pragma once

namespace quern {

// Returns the processors this process may run on, capped by its container's CPU quota (cgroup v2
// cpu.max, or v1 cpu.cfs_quota_us), at least 1.
unsigned AvailableThreads();

}  // namespace quern
