// SPDX-License-Identifier: Apache-2.0

#include "fs/fuse/invalidate_queue.h"

#include <fuse3/fuse_lowlevel.h>

namespace moorfs::fuse {

void InvalidateQueue::InvalidateInode(Ino ino) { Push({ino, {}}); }

void InvalidateQueue::InvalidateEntry(Ino parent, std::string_view name) { Push({parent, std::string(name)}); }

void InvalidateQueue::Push(Item item) {
  std::lock_guard lock(mutex_);
  // A burst about one inode is one message.
  if (!items_.empty() && items_.back().ino == item.ino && items_.back().name == item.name) return;
  items_.push_back(std::move(item));
  ready_.notify_one();
}

void InvalidateQueue::Start(fuse_session* session) {
  thread_ = std::thread([this, session] { ThreadMain(session); });
}

void InvalidateQueue::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    ready_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

uint64_t InvalidateQueue::sent() const {
  std::lock_guard lock(mutex_);
  return sent_;
}

void InvalidateQueue::ThreadMain(fuse_session* session) {
  std::unique_lock lock(mutex_);
  while (true) {
    ready_.wait(lock, [&] { return !items_.empty() || stopping_; });
    if (stopping_) return;
    const Item item = std::move(items_.front());
    items_.pop_front();
    ++sent_;
    lock.unlock();
    // ENOENT: the kernel does not know it, so there is nothing to forget.
    if (item.name.empty()) {
      fuse_lowlevel_notify_inval_inode(session, item.ino, 0, 0);
    } else {
      fuse_lowlevel_notify_inval_entry(session, item.ino, item.name.data(), item.name.size());
    }
    lock.lock();
  }
}

}  // namespace moorfs::fuse
