// SPDX-License-Identifier: Apache-2.0
//
// The roles of the binary; each is the main() of its process and returns its
// exit code.

#pragma once

namespace moorfs::admin {

// `moorfs COMMAND …`: what people type.
int CliMain(int argc, char** argv);
// /sbin/mount.moorfs META MOUNTPOINT [-sfnv] [-o OPTIONS], called by mount(8).
int MountHelperMain(int argc, char** argv);
// /sbin/umount.moorfs MOUNTPOINT [-flnrv], called by umount(8).
int UmountHelperMain(int argc, char** argv);
// Started by `moorfs mount`; talk over inherited descriptors only.
int KeeperMain();
int ClientMain();

}  // namespace moorfs::admin
