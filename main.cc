// SPDX-License-Identifier: Apache-2.0
//
// One binary, many roles: the name it is called by, or its first argument,
// picks one. Nothing else happens here.

#include <cstring>
#include <string_view>

#include "csi/roles.h"
#include "flex/door.h"
#include "fs/admin/roles.h"
#include "flex/standalone/flex_standalone.h"
#include "installer/install.h"

int main(int argc, char** argv) {
  using namespace moorfs::admin;
  const char* slash = std::strrchr(argv[0], '/');
  const std::string_view name = slash ? slash + 1 : argv[0];
  if (name == "mount.moorfs" || name == "mount.fuse.moorfs") return MountHelperMain(argc, argv);
  if (name == "umount.moorfs" || name == "umount.fuse.moorfs") return UmountHelperMain(argc, argv);
  if (name == "moorfs-flex") return moorfs::flex::DoorMain(argc, argv, "/proc/self/exe");
  const std::string_view role = argc > 1 ? argv[1] : "";
  if (role == "keeper") return KeeperMain(argc, argv);
  if (role == "supervise") return SuperviseMain(argc, argv);
  if (role == "client") return ClientMain();
  if (role == "node") return moorfs::csi::NodeMain(argc, argv);
  if (role == "csi") return moorfs::csi::AskMain(argc, argv);
  if (role == "lint-volumes") return moorfs::csi::LintMain(argc, argv);
  if (role == "controller") return moorfs::csi::ControllerMain(argc, argv);
  if (role == "flex") return moorfs::flex::DoorMain(argc, argv, "/proc/self/exe");
  if (role == "install") return moorfs::installer::InstallMain(argc, argv);
  if (role == "uninstall") return moorfs::installer::UninstallMain(argc, argv);
  if (role == "flex-standalone") return moorfs::standalone::FlexStandaloneMain();
  return CliMain(argc, argv);
}
