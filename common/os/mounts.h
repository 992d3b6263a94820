// SPDX-License-Identifier: Apache-2.0
//
// mount(2) and umount(2) with messages that say what to do, the words of
// mount options that the kernel keeps as flags, and who holds a mount busy.

#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"

namespace moorfs::os {

// Sets or clears the MS_* flag that a word like "nosuid", "dev" or "relatime"
// means. False: not such a word.
bool ApplyMountFlag(std::string_view word, unsigned long* flags);

Status Mount(const std::string& source, const std::string& target, const std::string& fstype, unsigned long flags,
             const std::string& data);
// `flags` as in umount2; symlinks are never followed. EBUSY keeps its errno.
Status Unmount(const std::string& target, int flags);

// A process that has something open, or its working directory, on a device.
struct Holder {
  pid_t pid = 0;
  std::string command;
  std::string what;  // "cwd", "root", "exe", "fd 3", "mapping"
};
// Scans /proc; at most `limit` processes. Never touches the mount itself, so
// a hung one does not hang the caller.
std::vector<Holder> FindHolders(uint32_t major, uint32_t minor, size_t limit);
// "bash (pid 12, cwd), less (pid 14, fd 3)"; empty for none.
std::string DescribeHolders(const std::vector<Holder>& holders);

}  // namespace moorfs::os
