// SPDX-License-Identifier: Apache-2.0
//
// `moorfs keeper`: of one mount, started by `moorfs mount`; or, with a socket,
// the node's second holder.

#include <malloc.h>

#include <cstdio>
#include <cstring>

#include "common/keeper/depot.h"
#include "common/keeper/keeper.h"
#include "fs/admin/roles.h"

namespace moorfs::admin {

int KeeperMain(int argc, char** argv) {
  // A handful of small allocations: one heap, returned when free.
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_TRIM_THRESHOLD, 64 << 10);
  if (argc == 2) return keeper::RunKeeper();
  if (argc == 4 && std::strcmp(argv[2], "--socket") == 0 && argv[3][0] == '/') return keeper::RunDepot(argv[3]);
  std::fputs("moorfs keeper: wanted is an absolute path\nusage: moorfs keeper --socket PATH\n", stderr);
  return 2;
}

}  // namespace moorfs::admin
