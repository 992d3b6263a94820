// SPDX-License-Identifier: Apache-2.0

#include "fs/fuse/executor.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <condition_variable>
#include <mutex>

namespace moorfs::fuse {
namespace {

// Work that waits until it is let go.
class Gate {
 public:
  void Wait() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
  }
  void AwaitWaiting(int n) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= n; });
  }
  void Open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;
  bool open_ = false;
};

TEST_CASE("work that waits does not keep other work from running") {
  Executor executor(4);
  Gate gate;
  for (int i = 0; i < 3; ++i) executor.Post([&] { gate.Wait(); });
  gate.AwaitWaiting(3);
  Gate ran;
  executor.Post([&] { ran.Open(); });
  ran.Wait();
  CHECK_FALSE(executor.Drain(10));
  gate.Open();
  CHECK(executor.Drain(5000));
}

TEST_CASE("there are never more threads than allowed, and all work is done") {
  Gate gate;
  std::atomic<int> done{0};
  {
    Executor executor(2);
    for (int i = 0; i < 50; ++i) {
      executor.Post([&] {
        gate.Wait();
        ++done;
      });
    }
    gate.AwaitWaiting(2);
    CHECK(executor.threads() == 2);
    CHECK(executor.queued() == 48);
    gate.Open();
  }
  CHECK(done == 50);
}

}  // namespace
}  // namespace moorfs::fuse
