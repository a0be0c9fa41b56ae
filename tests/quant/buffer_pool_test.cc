#include "formats/core/buffer_pool.h"

#include <gtest/gtest.h>

#include <thread>

namespace quern {
namespace {

TEST(BufferPool, LeasesAreAlignedAndReused) {
  BufferPool pool(1000);
  const uint8_t* first = nullptr;
  {
    const auto lease = pool.Acquire(400, "a test");
    ASSERT_EQ(lease.bytes().size(), 400u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(lease.bytes().data()) % BufferPool::kAlignmentBytes, 0u);
    first = lease.bytes().data();
  }
  const auto again = pool.Acquire(300, "a test");
  EXPECT_EQ(again.bytes().data(), first);
  EXPECT_EQ(pool.peak_bytes(), 400u);
}

TEST(BufferPool, IdleBuffersMakeRoom) {
  BufferPool pool(1000);
  { const auto small = pool.Acquire(300, "a test"); }
  const auto large = pool.Acquire(900, "a test");
  EXPECT_EQ(large.bytes().size(), 900u);
  EXPECT_EQ(pool.peak_bytes(), 900u);
}

TEST(BufferPool, RefusesWhatCanNeverFit) {
  BufferPool pool(1000);
  try {
    (void)pool.Acquire(1001, "one row of tensor 'x'");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kMemory);
    EXPECT_EQ(error.id(), "memory.budget");
    const std::string message = error.what();
    EXPECT_NE(message.find("tensor 'x'"), std::string::npos) << message;
    EXPECT_NE(message.find("1001"), std::string::npos) << message;
  }
}

TEST(BufferPool, WaitsForRoomAndNeverExceedsTheBudget) {
  BufferPool pool(1000);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&pool, t] {
      for (uint64_t i = 0; i < 500; ++i) {
        const auto lease = pool.Acquire(1 + (i * 37 + static_cast<uint64_t>(t) * 101) % 900, "a test");
        lease.bytes().front() = 1;
        lease.bytes().back() = 2;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(pool.peak_bytes(), 1000u);
}

TEST(BufferPool, LeasesMove) {
  BufferPool pool(100);
  auto a = pool.Acquire(100, "a test");
  BufferPool::Lease b = std::move(a);
  EXPECT_EQ(b.bytes().size(), 100u);
  b = BufferPool::Lease();
  EXPECT_EQ(pool.Acquire(100, "a test").bytes().size(), 100u);
}

}  // namespace
}  // namespace quern
