#include "tools/threads.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <string>

namespace quern {
namespace {

// Returns quota / period in processors, or infinity where there is no quota.
double QuotaOf(const std::string& quota_text, double period) {
  if (quota_text.empty() || quota_text == "max") return std::numeric_limits<double>::infinity();
  const double quota = std::strtod(quota_text.c_str(), nullptr);
  return quota > 0 && period > 0 ? quota / period : std::numeric_limits<double>::infinity();
}

// Returns the smallest quota between `folder` and the root of the cgroup v2 tree.
double CgroupV2Quota(std::string folder) {
  double smallest = std::numeric_limits<double>::infinity();
  while (true) {
    std::ifstream file("/sys/fs/cgroup" + folder + "/cpu.max");
    std::string quota;
    double period = 0;
    if (file >> quota >> period) smallest = std::min(smallest, QuotaOf(quota, period));
    if (folder.empty() || folder == "/") return smallest;
    folder.resize(folder.rfind('/'));
  }
}

double CgroupQuota() {
  std::ifstream groups("/proc/self/cgroup");
  double smallest = std::numeric_limits<double>::infinity();
  for (std::string line; std::getline(groups, line);) {
    if (line.starts_with("0::")) smallest = std::min(smallest, CgroupV2Quota(line.substr(3)));
  }
  std::ifstream quota_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  std::ifstream period_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  std::string quota;
  double period = 0;
  if (quota_file >> quota && period_file >> period)
    smallest = std::min(smallest, QuotaOf(quota, period));
  return smallest;
}

}  // namespace

unsigned AvailableThreads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int n_processors = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  const double limit = std::min<double>(n_processors, std::ceil(CgroupQuota()));
  return static_cast<unsigned>(std::max(limit, 1.0));
}

}  // namespace quern
