// SPDX-License-Identifier: Apache-2.0
//
// Work that may hang for ever inside the kernel, because a FUSE server that
// stopped has to answer first: a look-up below a mount, a bind of a directory.
// It runs in a forked child that is killed at the deadline. A child that the
// kernel does not let die is waited for by nobody, and until it is gone no
// second one is started: a hung mount costs one process, not one per request.

#pragma once

#include <initializer_list>
#include <mutex>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace moorfs::os {

// What the child answers.
struct BoundedAnswer {
  int err = 0;   // errno, 0 for success
  int step = 0;  // the caller's own number of the step that failed
};

// One per server that may hang. Thread-safe; calls take turns.
class BoundedCalls {
 public:
  // Runs `work(argument)` in a child that has the descriptors `keep` and no
  // others. The child is a copy of one thread of many: `work` may use system
  // calls only, no memory allocation, no locks. ETIMEDOUT: killed, the outcome
  // is unknown. EBUSY: an earlier child still hangs.
  using Work = BoundedAnswer (*)(void* argument);
  Result<BoundedAnswer> Run(Work work, void* argument, std::initializer_list<int> keep, int timeout_ms);
  // An earlier child still hangs.
  bool Stuck();

 private:
  bool ReapStuck();

  std::timed_mutex turn_;
  std::mutex mutex_;
  UniqueFd stuck_;  // pidfd
};

}  // namespace moorfs::os
