#include "tools/threads.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <cmath>
#include <filesystem>
#include <fstream>

namespace quern {
namespace {

// A tree of control groups under a temporary folder.
class CpuQuotaTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = testing::TempDir() + "quern_cgroup_" +
            testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root_ + "/" + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  std::string root_;
};

TEST_F(CpuQuotaTest, NoneWithoutFilesOrWithMax) {
  EXPECT_TRUE(std::isinf(CpuQuota("", root_)));
  EXPECT_TRUE(std::isinf(CpuQuota("0::/a/b\nnonsense\n", root_)));
  Write("a/b/cpu.max", "max 100000\n");
  EXPECT_TRUE(std::isinf(CpuQuota("0::/a/b\n", root_)));
}

TEST_F(CpuQuotaTest, Version2InAContainer) {
  Write("cpu.max", "150000 100000\n");
  EXPECT_DOUBLE_EQ(CpuQuota("0::/\n", root_), 1.5);
  // Where the path is the host's, which the container does not see.
  EXPECT_DOUBLE_EQ(CpuQuota("0::/docker/0123/x\n", root_), 1.5);
}

TEST_F(CpuQuotaTest, Version2TheSmallestUpTheTreeCounts) {
  Write("a/cpu.max", "200000 100000\n");
  Write("a/b/cpu.max", "800000 100000\n");
  Write("a/b/c/cpu.max", "max 100000\n");
  EXPECT_DOUBLE_EQ(CpuQuota("0::/a/b/c\n", root_), 2);
  EXPECT_DOUBLE_EQ(CpuQuota("0::/a/b\n", root_), 2);
}

TEST_F(CpuQuotaTest, Version1) {
  const std::string membership = "5:cpuset:/docker/x\n4:cpu,cpuacct:/docker/x\n0::/\n";
  Write("cpu,cpuacct/docker/x/cpu.cfs_quota_us", "50000\n");
  Write("cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n");
  EXPECT_DOUBLE_EQ(CpuQuota(membership, root_), 0.5);
  Write("cpu,cpuacct/docker/x/cpu.cfs_quota_us", "-1\n");
  EXPECT_TRUE(std::isinf(CpuQuota(membership, root_)));
  // In a container, with the usual link.
  Write("cpu/cpu.cfs_quota_us", "300000\n");
  Write("cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_DOUBLE_EQ(CpuQuota(membership, root_), 3);
}

TEST(AvailableThreads, KeepsToTheAffinity) {
  cpu_set_t before;
  CPU_ZERO(&before);
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  int processor = 0;
  while (!CPU_ISSET(processor, &before)) ++processor;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(processor, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(AvailableThreads(), 1u);
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
  EXPECT_LE(AvailableThreads(), static_cast<unsigned>(CPU_COUNT(&before)));
}

}  // namespace
}  // namespace quern
