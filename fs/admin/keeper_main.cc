// SPDX-License-Identifier: Apache-2.0

#include <malloc.h>

#include "common/keeper/keeper.h"
#include "fs/admin/roles.h"

namespace moorfs::admin {

int KeeperMain() {
  // A handful of small allocations: one heap, returned when free.
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_TRIM_THRESHOLD, 64 << 10);
  return keeper::RunKeeper();
}

}  // namespace moorfs::admin
