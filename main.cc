// SPDX-License-Identifier: Apache-2.0
//
// One binary, many roles: the name it is called by, or its first argument,
// picks one. Nothing else happens here.

#include <cstring>
#include <string_view>

#include "fs/admin/roles.h"

int main(int argc, char** argv) {
  using namespace moorfs::admin;
  const char* slash = std::strrchr(argv[0], '/');
  const std::string_view name = slash ? slash + 1 : argv[0];
  if (name == "mount.moorfs" || name == "mount.fuse.moorfs") return MountHelperMain(argc, argv);
  if (name == "umount.moorfs" || name == "umount.fuse.moorfs") return UmountHelperMain(argc, argv);
  const std::string_view role = argc > 1 ? argv[1] : "";
  if (role == "keeper") return KeeperMain();
  if (role == "client") return ClientMain();
  return CliMain(argc, argv);
}
