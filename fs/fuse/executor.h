// SPDX-License-Identifier: Apache-2.0
//
// Executor: a bounded pool of threads for work that may wait (for a store, for
// memory). Threads start on demand and end when idle for half a minute. Their
// stacks are small: there may be many of them.

#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>

#include "common/base/status.h"

namespace moorfs::fuse {

// Starts a detached thread with a small stack; `body` must tell its end itself.
Status StartThread(std::function<void()> body);

class Executor {
 public:
  explicit Executor(size_t max_threads) : max_threads_(max_threads) {}
  // Waits for all work.
  ~Executor();

  // Never waits. When no thread can be had at all, runs `work` on the caller.
  void Post(std::function<void()> work);
  // True when nothing is queued or running before `timeout_ms` is over.
  bool Drain(int timeout_ms);
  size_t queued() const;
  size_t threads() const;

 private:
  void ThreadMain();

  const size_t max_threads_;
  mutable std::mutex mutex_;
  std::condition_variable work_ready_, changed_;
  std::deque<std::function<void()>> queue_;
  size_t threads_ = 0, idle_ = 0;
  bool ending_ = false;
};

}  // namespace moorfs::fuse
