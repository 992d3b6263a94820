// SPDX-License-Identifier: Apache-2.0

#include "fs/fuse/errno_map.h"

#include <mutex>
#include <string>

#include "common/base/units.h"
#include "common/log/log.h"

namespace moorfs::fuse {
namespace {

// An outage fails every request; people need the first lines and the number
// of the others.
class LogBudget {
 public:
  // True: log now; `suppressed` is how many were not logged since.
  bool Take(uint64_t* suppressed) {
    std::lock_guard lock(mutex_);
    const int64_t now = MonotonicNs();
    if (now - window_start_ >= Timestamp::kNsPerSec) {
      window_start_ = now;
      in_window_ = 0;
    }
    if (in_window_ >= kLinesPerSecond) {
      ++suppressed_;
      return false;
    }
    ++in_window_;
    *suppressed = suppressed_;
    suppressed_ = 0;
    return true;
  }

 private:
  static constexpr int kLinesPerSecond = 20;
  std::mutex mutex_;
  int64_t window_start_ = 0;
  int in_window_ = 0;
  uint64_t suppressed_ = 0;
};

}  // namespace

int ToKernelErrno(const Status& status) {
  switch (status.err()) {
    case kErrnoConflict:  // lost every race it was retried for
      return EAGAIN;
    case kErrnoUnknown:  // may or may not have happened: no better word exists
      return EIO;
    case ENOSYS:
      return EOPNOTSUPP;
    case EPROTO:
    case EBADMSG:  // damaged records
      return EIO;
    default:
      // libfuse replaces what it does not know by ERANGE.
      return status.err() > 0 && status.err() < 1000 ? status.err() : EIO;
  }
}

int AnswerErrno(const char* operation, uint64_t ino, const Status& status) {
  const int err = ToKernelErrno(status);
  if (err != EIO && status.err() < 1000) return err;
  static LogBudget budget;
  uint64_t suppressed = 0;
  if (budget.Take(&suppressed)) {
    LOG_ERROR("fuse") << operation << " of inode " << ino << " answers " << ErrnoName(err) << ": "
                      << status.ToString()
                      << (suppressed ? " (" + std::to_string(suppressed) + " such errors were not logged)" : "");
  }
  return err;
}

}  // namespace moorfs::fuse
