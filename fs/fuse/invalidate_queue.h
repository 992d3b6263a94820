// SPDX-License-Identifier: Apache-2.0
//
// InvalidateQueue: tells the kernel to forget cached attributes, pages and
// entries, on a thread of its own. The kernel takes inode locks and waits for
// pages to do it, and those may be held by requests that wait for us; so the
// thread that serves requests only queues.

#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "fs/vfs/file_system.h"

struct fuse_session;

namespace moorfs::fuse {

class InvalidateQueue : public vfs::Invalidator {
 public:
  ~InvalidateQueue() override { Stop(); }
  void InvalidateInode(Ino ino) override;
  void InvalidateEntry(Ino parent, std::string_view name) override;

  // What was queued before is sent now.
  void Start(fuse_session* session);
  void Stop();
  uint64_t sent() const;

 private:
  struct Item {
    Ino ino;
    std::string name;  // empty: the inode itself
  };
  void ThreadMain(fuse_session* session);
  void Push(Item item);

  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<Item> items_;
  bool stopping_ = false;
  uint64_t sent_ = 0;
  std::thread thread_;
};

}  // namespace moorfs::fuse
