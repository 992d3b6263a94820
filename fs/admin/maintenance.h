// SPDX-License-Identifier: Apache-2.0
//
// The client's housekeeping thread: runs what is due (housekeeping.h) in small
// steps, and gives unused memory back.

#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "common/base/status.h"
#include "fs/chunk/block_store.h"
#include "fs/meta/meta.h"
#include "fs/vfs/vfs.h"

namespace moorfs::admin {

class Maintenance {
 public:
  struct Parts {
    meta::Meta& meta;
    chunk::BlockStore& blocks;
    vfs::Vfs& vfs;
    vfs::InodeTable& inodes;
    bool read_only = false;
  };
  explicit Maintenance(Parts parts);
  ~Maintenance();

  // Ends the thread. Others may go on asking for last_error().
  void Stop();

  // Of the last turn; empty when it went well.
  std::string last_error();

 private:
  void Loop();
  Status Turn();
  // False when the thread shall end.
  bool Pause(int ms);

  Parts parts_;
  std::mutex mutex_;
  std::condition_variable stop_changed_;
  bool stop_ = false;
  std::string last_error_;
  std::thread thread_;
};

}  // namespace moorfs::admin
