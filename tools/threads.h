// How many threads this process may use.
#pragma once

#include <string>

namespace quern {

// Returns the processors this process may run on, capped by its container's CPU quota, at least 1.
unsigned AvailableThreads();

// Returns how many threads, the present one included, a computation may count on: `wanted`, or
// fewer where the system refuses so many (a container's limit on processes). oneTBB ends the
// program where it cannot start a thread.
unsigned StartableThreads(unsigned wanted);

// Returns the smallest CPU quota, in processors, of the control groups in `membership` (the text of
// /proc/self/cgroup) and of those above them, whose files lie under `root` (/sys/fs/cgroup):
// version 2's cpu.max, version 1's cpu.cfs_quota_us over cpu.cfs_period_us. Infinity where there is
// none.
double CpuQuota(const std::string& membership, const std::string& root);

}  // namespace quern
