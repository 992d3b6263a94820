// SPDX-License-Identifier: Apache-2.0
//
// TaskPool: a few threads and a bounded queue for work that may be dropped.

#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace moorfs::chunk {

class TaskPool {
 public:
  TaskPool(uint32_t threads, size_t max_queued);
  // Runs no queued task any more, waits for those under way.
  ~TaskPool();

  // False, and the task is dropped, when the queue is full.
  bool Submit(std::function<void()> task);

 private:
  void Run();

  const uint32_t thread_limit_;
  const size_t max_queued_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
  std::vector<std::thread> threads_;  // started when first needed
  uint32_t idle_ = 0;
  bool stopping_ = false;
};

}  // namespace moorfs::chunk
