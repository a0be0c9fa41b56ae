#include "tools/threads.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <mutex>
#include <sstream>
#include <system_error>
#include <thread>
#include <vector>

namespace quern {
namespace {

constexpr double kNoQuota = std::numeric_limits<double>::infinity();

// Returns quota / period in processors; version 1 writes -1 where there is no quota, version 2
// "max".
double QuotaOf(const std::string& quota_text, double period) {
  const double quota = std::strtod(quota_text.c_str(), nullptr);
  return quota_text != "max" && quota > 0 && period > 0 ? quota / period : kNoQuota;
}

double QuotaOfVersion2(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");
  std::string quota;
  double period = 0;
  return file >> quota >> period ? QuotaOf(quota, period) : kNoQuota;
}

double QuotaOfVersion1(const std::string& folder) {
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us");
  std::ifstream period_file(folder + "/cpu.cfs_period_us");
  std::string quota;
  double period = 0;
  return quota_file >> quota && period_file >> period ? QuotaOf(quota, period) : kNoQuota;
}

// Returns the smallest quota between the group `path` below `mount` and `mount` itself. A container
// sees its own group at `mount`, and there may be nothing at `path`.
double SmallestQuota(const std::string& mount, std::string path,
                     double (*quota_of)(const std::string&)) {
  double smallest = quota_of(mount);
  while (!path.empty() && path != "/") {
    smallest = std::min(smallest, quota_of(mount + path));
    path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
  return smallest;
}

}  // namespace

double CpuQuota(const std::string& membership, const std::string& root) {
  double smallest = kNoQuota;
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {  // ID:CONTROLLERS:PATH
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      for (const char* mount : {"", "/unified"}) {
        smallest = std::min(smallest, SmallestQuota(root + mount, path, QuotaOfVersion2));
      }
    } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
      for (const std::string& mount : {controllers, std::string("cpu")}) {
        smallest = std::min(smallest, SmallestQuota(root + "/" + mount, path, QuotaOfVersion1));
      }
    }
  }
  return smallest;
}

unsigned AvailableThreads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int n_processors = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  std::ifstream file("/proc/self/cgroup");
  std::ostringstream membership;
  membership << file.rdbuf();  // where it cannot be read, there is no quota to keep to
  const double quota = std::ceil(CpuQuota(membership.str(), "/sys/fs/cgroup"));
  return static_cast<unsigned>(std::max(std::min<double>(n_processors, quota), 1.0));
}

unsigned StartableThreads(unsigned wanted) {
  std::mutex gate;
  std::vector<std::thread> threads;
  {
    const std::scoped_lock all_at_once(gate);
    try {
      while (threads.size() + 1 < wanted) {
        threads.emplace_back([&gate] { const std::scoped_lock pass(gate); });
      }
    } catch (const std::system_error&) {
    }
  }
  for (std::thread& thread : threads) thread.join();
  const auto started = static_cast<unsigned>(threads.size()) + 1;
  // One is left to those that tell the disk to start.
  return started == wanted ? wanted : std::max(started - 1, 1u);
}

}  // namespace quern
