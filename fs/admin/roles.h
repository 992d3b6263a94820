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
// Started by `moorfs mount`, without arguments: the keeper of one mount. With
// `--socket PATH`: the node's second holder of every mount of its pods.
int KeeperMain(int argc, char** argv);
// PID 1 of a mount pod: `moorfs supervise --directory DIR`.
int SuperviseMain(int argc, char** argv);
// Started by a keeper or a supervisor; talks over inherited descriptors only.
int ClientMain();

}  // namespace moorfs::admin
