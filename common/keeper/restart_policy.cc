// SPDX-License-Identifier: Apache-2.0

#include "common/keeper/restart_policy.h"

#include <algorithm>

namespace moorfs::keeper {

int RestartPolicy::AfterEnd(int64_t now_ns, bool incompatible) {
  if (incompatible) return kMaxDelayMs;
  if (ready_) return 0;
  if (now_ns - started_ns_ > kQuickNs) failures_ = 0;
  return std::min(kMaxDelayMs, kFirstDelayMs << std::min(failures_++, 10));
}

}  // namespace moorfs::keeper
