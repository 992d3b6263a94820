// SPDX-License-Identifier: Apache-2.0
//
// The keeper: one small process per mount that must not die. It mounts, holds
// the /dev/fuse descriptor, the arena and the volume's lock, and sees to it
// that a client serves. It uses no engine, no store and no RPC library, and
// never touches a path below the mount point: whatever happens to the client,
// the keeper cannot hang on it.

#pragma once

namespace moorfs::keeper {

// The process: configuration, arena and lock arrive over inherited descriptors
// (protocol.h). Returns the exit code once the mount is gone.
int RunKeeper();

}  // namespace moorfs::keeper
