// SPDX-License-Identifier: Apache-2.0

#include "fs/fuse/executor.h"

#include <pthread.h>

#include <chrono>
#include <memory>

namespace moorfs::fuse {
namespace {

#if defined(MOORFS_SANITIZE_address) || defined(MOORFS_SANITIZE_thread)
constexpr size_t kStackBytes = 4 << 20;
#else
constexpr size_t kStackBytes = 512 << 10;
#endif

constexpr auto kIdleTime = std::chrono::seconds(30);

void* Trampoline(void* arg) {
  const std::unique_ptr<std::function<void()>> body(static_cast<std::function<void()>*>(arg));
  (*body)();
  return nullptr;
}

}  // namespace

Status StartThread(std::function<void()> body) {
  auto arg = std::make_unique<std::function<void()>>(std::move(body));
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, kStackBytes);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  const int err = pthread_create(&thread, &attr, Trampoline, arg.get());
  pthread_attr_destroy(&attr);
  if (err != 0) return Status::FromErrno("start a thread", err);
  arg.release();
  return Status::Ok();
}

Executor::~Executor() {
  std::unique_lock lock(mutex_);
  ending_ = true;
  work_ready_.notify_all();
  changed_.wait(lock, [&] { return threads_ == 0; });
}

void Executor::Post(std::function<void()> work) {
  std::unique_lock lock(mutex_);
  if (queue_.size() >= idle_ && threads_ < max_threads_) {
    ++threads_;
    if (!StartThread([this] { ThreadMain(); }).ok()) --threads_;
    if (threads_ == 0) {
      lock.unlock();
      work();
      return;
    }
  }
  queue_.push_back(std::move(work));
  work_ready_.notify_one();
}

void Executor::ThreadMain() {
  std::unique_lock lock(mutex_);
  while (true) {
    if (queue_.empty()) {
      ++idle_;
      changed_.notify_all();
      const bool woken =
          work_ready_.wait_for(lock, kIdleTime, [&] { return !queue_.empty() || ending_; });
      --idle_;
      if (!woken || (ending_ && queue_.empty())) break;
    }
    auto work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    work();
    work = nullptr;  // what it captured may need the lock
    lock.lock();
  }
  --threads_;
  // Under the lock: the destructor must not end before this thread is done
  // with the members.
  changed_.notify_all();
}

bool Executor::Drain(int timeout_ms) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                           [&] { return queue_.empty() && idle_ == threads_; });
}

size_t Executor::queued() const {
  std::lock_guard lock(mutex_);
  return queue_.size();
}

size_t Executor::threads() const {
  std::lock_guard lock(mutex_);
  return threads_;
}

}  // namespace moorfs::fuse
