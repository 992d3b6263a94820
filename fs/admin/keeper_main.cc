// SPDX-License-Identifier: Apache-2.0
//
// `moorfs keeper`: of one mount, started by `moorfs mount`; or, with a socket,
// the node's second holder.

#include <malloc.h>

#include <cstdio>
#include <string>
#include <string_view>

#include "common/keeper/depot.h"
#include "common/keeper/keeper.h"
#include "fs/admin/roles.h"

namespace moorfs::admin {

int KeeperMain(int argc, char** argv) {
  // A handful of small allocations: one heap, returned when free.
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_TRIM_THRESHOLD, 64 << 10);
  if (argc == 2) return keeper::RunKeeper();
  // "--socket PATH" and "--socket=PATH", as every command takes it.
  constexpr std::string_view kOption = "--socket";
  const std::string_view word = argv[2];
  std::string_view path;
  if (argc == 4 && word == kOption) path = argv[3];
  if (argc == 3 && word.starts_with(kOption) && word.substr(kOption.size()).starts_with("=")) {
    path = word.substr(kOption.size() + 1);
  }
  if (path.starts_with("/")) return keeper::RunDepot(std::string(path));
  std::fputs("moorfs keeper: --socket wants an absolute path\nusage: moorfs keeper --socket PATH\n", stderr);
  return 2;
}

}  // namespace moorfs::admin
