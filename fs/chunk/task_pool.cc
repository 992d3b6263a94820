// SPDX-License-Identifier: Apache-2.0
//
// See task_pool.h.

#include "fs/chunk/task_pool.h"

#include <system_error>

namespace moorfs::chunk {

TaskPool::TaskPool(uint32_t threads, size_t max_queued) : thread_limit_(threads), max_queued_(max_queued) {}

TaskPool::~TaskPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    queue_.clear();
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool TaskPool::Submit(std::function<void()> task) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_ || thread_limit_ == 0 || queue_.size() >= max_queued_) return false;
    if (idle_ <= queue_.size() && threads_.size() < thread_limit_) {
      try {
        threads_.emplace_back([this] { Run(); });
      } catch (const std::system_error&) {  // no more threads for this process
        if (threads_.empty()) return false;
      }
    }
    queue_.push_back(std::move(task));
  }
  wake_.notify_one();
  return true;
}

void TaskPool::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    idle_++;
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    idle_--;
    if (stopping_) return;
    const std::function<void()> task = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    task();
    lock.lock();
  }
}

}  // namespace moorfs::chunk
