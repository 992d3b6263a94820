// SPDX-License-Identifier: Apache-2.0
//
// Folder::Sync: one fsync for all callers that arrive while another runs.

#include <unistd.h>

#include <cerrno>

#include "fs/object/file/fd_cache.h"

namespace moorfs::object {

int Folder::Sync() {
  std::unique_lock lock(mutex_);
  // A run under way may have passed our entry already: only a later one counts.
  const uint64_t need = started_ + 1;
  while (finished_ < need) {
    if (started_ != finished_) {
      done_.wait(lock);
      continue;
    }
    const uint64_t run = ++started_;
    lock.unlock();
    const int err = ::fsync(fd.get()) == 0 ? 0 : errno;
    lock.lock();
    finished_ = run;
    // The kernel reports a failed write back once; every waiter must hear it.
    if (err != 0) {
      failed_run_ = run;
      failed_error_ = err;
    }
    done_.notify_all();
  }
  return failed_run_ >= need ? failed_error_ : 0;
}

}  // namespace moorfs::object
