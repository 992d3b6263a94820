// SPDX-License-Identifier: Apache-2.0
//
// The kernel's side of a FUSE mount that needs root: opening /dev/fuse,
// read-ahead of the backing device, and aborting a connection nobody serves.

#pragma once

#include <cstdint>
#include <string>

#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace moorfs::os {

// Close-on-exec: a descriptor inherited by some helper would keep requests of
// a dead client waiting for ever.
Result<UniqueFd> OpenFuseDevice();
struct FuseMount {
  UniqueFd fuse;
  uint32_t major = 0, minor = 0;
};
// Mounts a file system that nobody serves yet: permissions are checked by the
// kernel, everybody may use it. Undone when the mount table does not show it.
Result<FuseMount> MountFuse(const std::string& source, const std::string& mountpoint, const std::string& fstype,
                            unsigned long flags);
// /sys/class/bdi/<major>:<minor>/read_ahead_kb; the kernel's default of 128
// makes every sequential read a sequence of small ones.
Status SetReadAhead(uint32_t major, uint32_t minor, uint32_t kib);
// Applications get ECONNABORTED/ENOTCONN instead of waiting. The mount stays.
Status AbortFuseConnection(uint32_t minor);
// Requests the kernel waits for; nullopt-like -1 when fusectl is not mounted.
int64_t WaitingRequests(uint32_t minor);

}  // namespace moorfs::os
